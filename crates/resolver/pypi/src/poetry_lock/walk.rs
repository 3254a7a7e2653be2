//! Which packages of a lock a project needs, where the lock does not say it itself: formats before 2.1.
//!
//! Such a lock is a small world of packages, in which a name may have several entries for different targets. Poetry
//! installs from it by solving again within that world, and so does this, with uv's solver. A *version* here is the
//! index of an entry, so that the solver's ranges hold entries and need no order of their own: which entries a
//! dependency allows, Poetry's rules for versions and sources have decided before.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use pubgrub::{
    Dependencies, DependencyConstraints, DependencyProvider, DerivationTree, External,
    PackageResolutionStatistics, PubGrubError, Ranges,
};
use uv_normalize::{ExtraName, PackageName};

use super::lock::{Entry, Lock};
use super::requirement::{Requirement, requirements};
use crate::error::{Error, plain, plain_text};
use crate::target::Environment;

/// Steps of the solver, of which a real lock needs one or two for each package.
const STEPS: usize = 100_000;

/// The entries that are needed for `roots`, with `extras` of the project, in the lock's order.
pub(super) fn walk<'lock>(
    lock: &'lock Lock,
    file: &Path,
    roots: &[(PackageName, Requirement)],
    extras: &[ExtraName],
    environment: &Environment,
) -> Result<Vec<&'lock Entry>, Error> {
    let mut world = World { lock, roots, extras, environment, dependencies: Vec::new(), steps: Cell::new(0) };
    for entry in &lock.entries {
        world.dependencies.push(dependencies(entry, file)?);
    }
    let solution: HashMap<Node, usize> = match pubgrub::resolve(&world, Node::Project, 0_usize) {
        Ok(solution) => solution.into_iter().collect(),
        Err(error) => {
            let why = match error {
                PubGrubError::NoSolution(tree) => {
                    let reasons: Vec<String> = world.reasons(&tree).into_iter().collect();
                    format!(
                        "its packages don't fit together for {}: {}",
                        environment.words,
                        reasons.join(", ")
                    )
                }
                error => plain(&error),
            };
            let message = plain_text(&format!("{why}; run `poetry lock`"));
            return Err(Error::Select { file: file.to_owned(), message });
        }
    };

    // Dependencies of extras that nobody asked for take part, so that each extra gets the version that fits all of
    // them. They are left out afterwards, as Poetry does.
    let unasked = world.unasked(&solution);
    let asked = world.asked(&solution);
    let mut chosen: Vec<usize> = solution
        .iter()
        .filter(|(node, _)| match node {
            Node::Package(name) => unasked.contains(name) || asked.contains(name),
            Node::Project | Node::Extra(..) => false,
        })
        .map(|(_, &index)| index)
        .collect();
    chosen.sort_unstable();
    Ok(chosen.into_iter().filter_map(|index| lock.entries.get(index)).collect())
}

fn dependencies(entry: &Entry, file: &Path) -> Result<Vec<(PackageName, Requirement)>, Error> {
    let mut found = Vec::new();
    for (name, value) in &entry.dependencies {
        let wrong = |why: String| Error::Parse {
            file: file.to_owned(),
            format: "poetry.lock",
            message: plain_text(&format!(
                "package {}: dependency {name}: {why}; `poetry lock` writes it again",
                entry.name
            )),
        };
        let package: PackageName =
            name.parse().map_err(|_| wrong("that is no name of a package".to_owned()))?;
        let all = requirements(value).map_err(wrong)?;
        found.extend(all.into_iter().map(|requirement| (package.clone(), requirement)));
    }
    Ok(found)
}

/// What the solver decides on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    Project,
    Package(PackageName),
    /// A package's extra, which has the version of the package.
    Extra(PackageName, ExtraName),
}

impl Node {
    fn package(&self) -> Option<&PackageName> {
        match self {
            Self::Project => None,
            Self::Package(name) | Self::Extra(name, _) => Some(name),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Project => f.write_str("pyproject.toml"),
            Self::Package(name) => name.fmt(f),
            Self::Extra(name, extra) => write!(f, "{name}[{extra}]"),
        }
    }
}

/// The lock, as the solver sees it.
struct World<'a> {
    lock: &'a Lock,
    roots: &'a [(PackageName, Requirement)],
    extras: &'a [ExtraName],
    environment: &'a Environment,
    /// Of each entry.
    dependencies: Vec<Vec<(PackageName, Requirement)>>,
    /// How many were taken.
    steps: Cell<usize>,
}

/// The solver was stopped.
#[derive(Debug, thiserror::Error)]
#[error("there is no end to choosing among its packages")]
struct Endless;

impl World<'_> {
    /// The entries that a dependency allows and that run on the target.
    fn range(&self, name: &PackageName, requirement: &Requirement) -> Ranges<usize> {
        let entries = &self.lock.entries;
        let first = entries.partition_point(|entry| entry.name < *name);
        let of_name = entries.iter().enumerate().skip(first).take_while(|(_, entry)| entry.name == *name);
        of_name
            .filter(|(_, entry)| requirement.allows(entry) && entry.python.allows(self.environment.python()))
            .fold(Ranges::empty(), |all, (index, _)| all.union(&Ranges::singleton(index)))
    }

    /// What a node needs: other nodes, and the entries that will do for each.
    fn needs(&self, node: &Node, index: usize) -> BTreeMap<String, (Node, Ranges<usize>)> {
        let mut needs = BTreeMap::new();
        let mut need = |other: Node, range: Ranges<usize>| {
            if other != *node {
                let (_, all) = needs.entry(other.to_string()).or_insert_with(|| (other, Ranges::full()));
                *all = all.intersection(&range);
            }
        };
        let mut want = |name: &PackageName, requirement: &Requirement| {
            let range = self.range(name, requirement);
            for extra in &requirement.extras {
                need(Node::Extra(name.clone(), extra.clone()), range.clone());
            }
            need(Node::Package(name.clone()), range);
        };
        let none = Vec::new();
        let dependencies = self.dependencies.get(index).unwrap_or(&none);
        match node {
            Node::Project => {
                for (name, requirement) in self.roots {
                    if requirement.is_active(self.environment, self.extras) {
                        want(name, requirement);
                    }
                }
            }
            Node::Package(_) => {
                for (name, requirement) in dependencies {
                    if !requirement.is_optional && requirement.is_active(self.environment, &[]) {
                        want(name, requirement);
                    }
                }
            }
            Node::Extra(package, extra) => {
                let own = self.lock.entries.get(index).and_then(|entry| entry.extras.get(extra));
                let own = own.map(Vec::as_slice).unwrap_or_default();
                for (name, requirement) in dependencies {
                    let is_brought = own.iter().any(|optional| optional.name == *name);
                    if (is_brought || !requirement.is_optional)
                        && requirement.is_active(self.environment, std::slice::from_ref(extra))
                    {
                        want(name, requirement);
                    }
                }
                // `all = ["package[one,two]"]`
                let others = own.iter().filter(|optional| optional.name == *package);
                for other in others.flat_map(|optional| &optional.extras).filter(|other| *other != extra) {
                    need(Node::Extra(package.clone(), other.clone()), Ranges::singleton(index));
                }
                need(Node::Package(package.clone()), Ranges::singleton(index));
            }
        }
        needs
    }

    /// The packages that the project needs without its extras: a dependency that is not optional leads to them.
    fn unasked(&self, solution: &HashMap<Node, usize>) -> BTreeSet<PackageName> {
        let mut queue = Vec::new();
        for (name, requirement) in self.roots {
            if !requirement.is_optional && requirement.is_active(self.environment, self.extras) {
                queue.push(Node::Package(name.clone()));
                queue.extend(requirement.extras.iter().map(|extra| Node::Extra(name.clone(), extra.clone())));
            }
        }
        let mut seen = HashSet::new();
        while let Some(node) = queue.pop() {
            if let Some(&index) = solution.get(&node)
                && !seen.contains(&node)
            {
                queue.extend(self.needs(&node, index).into_values().map(|(other, _)| other));
                seen.insert(node);
            }
        }
        seen.iter().filter_map(Node::package).cloned().collect()
    }

    /// The packages that the wanted extras lead to. As in Poetry, a package leads to what any use of it does.
    fn asked(&self, solution: &HashMap<Node, usize>) -> BTreeSet<PackageName> {
        let mut edges: BTreeMap<&PackageName, BTreeSet<PackageName>> = BTreeMap::new();
        for (node, &index) in solution {
            let Some(name) = node.package() else { continue };
            let reached = self.needs(node, index).into_values();
            edges.entry(name).or_default().extend(reached.filter_map(|(node, _)| node.package().cloned()));
        }
        let mut asked = BTreeSet::new();
        let mut queue: Vec<&PackageName> =
            self.extras.iter().filter_map(|extra| self.lock.extras.get(extra)).flatten().collect();
        while let Some(name) = queue.pop() {
            if asked.insert(name.clone()) {
                queue.extend(edges.get(name).into_iter().flatten());
            }
        }
        asked
    }

    /// What of the lock contradicts itself, a dependency each.
    fn reasons(&self, tree: &DerivationTree<Node, Ranges<usize>, String>) -> BTreeSet<String> {
        match tree {
            DerivationTree::External(External::FromDependencyOf(from, of, to, range)) => {
                let of = self.versions(from, of).join(" or ");
                let mut allowed = self.versions(to, range).join(" or ");
                if allowed.is_empty() {
                    allowed.push_str("in a version that is not locked for this Python");
                }
                BTreeSet::from([format!("{} needs {to} {allowed}", format!("{from} {of}").trim_end())])
            }
            DerivationTree::External(_) => BTreeSet::new(),
            DerivationTree::Derived(derived) => {
                let mut reasons = self.reasons(&derived.cause1);
                reasons.append(&mut self.reasons(&derived.cause2));
                reasons
            }
        }
    }

    fn versions(&self, node: &Node, range: &Ranges<usize>) -> Vec<String> {
        let entries = self.lock.entries.iter().enumerate();
        entries
            .filter(|(index, entry)| node.package() == Some(&entry.name) && range.contains(index))
            .map(|(_, entry)| entry.version.to_string())
            .collect()
    }
}

impl DependencyProvider for World<'_> {
    type P = Node;
    type V = usize;
    type VS = Ranges<usize>;
    type M = String;
    type Err = Endless;
    /// Packages with the least choice first: they decide about others.
    type Priority = std::cmp::Reverse<usize>;

    fn prioritize(
        &self,
        node: &Node,
        range: &Ranges<usize>,
        _: &PackageResolutionStatistics,
    ) -> Self::Priority {
        std::cmp::Reverse(self.candidates(node, range).count())
    }

    /// The highest version, of which there is one entry or, with several sources, the last.
    fn choose_version(&self, node: &Node, range: &Ranges<usize>) -> Result<Option<usize>, Endless> {
        Ok(self.candidates(node, range).next_back())
    }

    fn get_dependencies(
        &self,
        node: &Node,
        index: &usize,
    ) -> Result<Dependencies<Node, Ranges<usize>, String>, Endless> {
        let needs: DependencyConstraints<_, _> = self.needs(node, *index).into_values().collect();
        Ok(Dependencies::Available(needs))
    }

    fn should_cancel(&self) -> Result<(), Endless> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > STEPS { Err(Endless) } else { Ok(()) }
    }
}

impl World<'_> {
    fn candidates(&self, node: &Node, range: &Ranges<usize>) -> impl DoubleEndedIterator<Item = usize> {
        let entries = &self.lock.entries;
        let span = match node.package() {
            None => 0..1,
            Some(name) => {
                let first = entries.partition_point(|entry| entry.name < *name);
                first..entries.partition_point(|entry| entry.name <= *name)
            }
        };
        span.filter(|index| range.contains(index))
    }
}

#[cfg(test)]
mod tests {
    use imgforge_resolver_core::{Architecture, Libc, Target};

    use super::*;
    use crate::poetry_lock::project::Project;

    /// What a lock with `packages` installs for `dependencies` of a project. A package is `NAME VERSION` with its other
    /// keys and tables.
    fn check(dependencies: &str, extras: &[&str], packages: &[(&str, &str)], expect: &str) {
        let mut text = String::new();
        for (package, keys) in packages {
            let (name, version) = package.split_once(' ').expect("a name and a version");
            let python = if keys.contains("python-versions") { "" } else { "python-versions = \"*\"\n" };
            text += &format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nfiles = []\n{python}{keys}\n"
            );
        }
        text += "[extras]\none = [\"x\"]\ntwo = [\"y\"]\n[metadata]\nlock-version = \"2.0\"\npython-versions = \"*\"\n";
        let target = Target {
            python: "3.11".to_owned(),
            architecture: Architecture::Amd64,
            libc: Libc::Glibc { major: 2, minor: 36 },
        };
        let environment = Environment::new(&target).expect("an environment");
        let file = Path::new("poetry.lock");
        let lock = Lock::parse(&text, file).expect("a lock");
        let project = format!("[tool.poetry.dependencies]\n{dependencies}\n");
        let project = Project::parse(&project, file).expect("a project");
        let roots = project.requirements(&BTreeSet::from(["main".parse().expect("a group")]));
        let extras: Vec<ExtraName> = extras.iter().map(|it| it.parse().expect("an extra")).collect();
        let found = match roots.and_then(|roots| walk(&lock, file, &roots, &extras, &environment)) {
            Ok(entries) => {
                let all = entries.iter().map(|it| format!("{} {}", it.name, it.version));
                all.collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expect, "{dependencies} {extras:?}");
    }

    #[test]
    fn what_leads_to_what() {
        let packages = [
            (
                "a 1.0",
                "[package.dependencies]\nB = \">=1\"\nc = { version = \"*\", markers = \"os_name == 'nt'\" }",
            ),
            ("b 1.5", "[package.dependencies]\na = \"*\""),
            ("c 1.0", ""),
            ("d 1.0", ""),
        ];
        check("python = \"3.11\"\na = \"^1.0\"", &[], &packages, "a 1.0, b 1.5");
        check("A = \"*\"\nd = { version = \"*\", python = \">=3.12\" }", &[], &packages, "a 1.0, b 1.5");
        check("", &[], &packages, "");
    }

    #[test]
    fn several_entries_of_a_name() {
        let packages = [("a 1.0", ""), ("a 2.0", "python-versions = \"<3.11\""), ("a 1.5", "")];
        check("a = \"*\"", &[], &packages, "a 1.5");
        check(
            "a = [{ version = \"1.0\", python = \"3.11\" }, { version = \"^2\", python = \"<3.11\" }]",
            &[],
            &packages,
            "a 1.0",
        );
    }

    #[test]
    fn the_highest_that_all_agree_on() {
        let needs = |constraint: &str| format!("[package.dependencies]\na = \"{constraint}\"");
        let (two, one) = (needs("<3"), needs("<2"));
        let packages =
            [("a 1.0", ""), ("a 2.0", ""), ("a 3.0", ""), ("b 1.0", two.as_str()), ("c 1.0", one.as_str())];
        check("a = \"*\"", &[], &packages, "a 3.0");
        check("a = \"*\"\nb = \"*\"", &[], &packages, "a 2.0, b 1.0");
        check("a = \"*\"\nb = \"*\"\nc = \"*\"", &[], &packages, "a 1.0, b 1.0, c 1.0");

        // The highest `a` leads to a `b` that nothing agrees with.
        let packages = [
            ("a 1.0", ""),
            ("a 2.0", "[package.dependencies]\nb = \">=2\""),
            ("b 1.0", ""),
            ("b 2.0", "[package.dependencies]\nc = \">=2\""),
            ("c 1.0", ""),
        ];
        check("a = \"*\"\nb = \"*\"\nc = \"*\"", &[], &packages, "a 1.0, b 1.0, c 1.0");
    }

    #[test]
    fn extras_of_packages() {
        let a = "[package.dependencies]\nb = { version = \"*\", optional = true }\n\
                 c = { version = \"*\", optional = true, markers = \"extra == \\\"more\\\"\" }\n\
                 [package.extras]\nsome = [\"b (>=1)\"]\nmore = [\"c\"]\nall = [\"a[some,more]\"]";
        let packages = [("a 1.0", a), ("b 1.0", ""), ("c 1.0", "")];
        check("a = \"*\"", &[], &packages, "a 1.0");
        check("a = { version = \"*\", extras = [\"some\"] }", &[], &packages, "a 1.0, b 1.0");
        check("a = { version = \"*\", extras = [\"More\"] }", &[], &packages, "a 1.0, c 1.0");
        check("a = { version = \"*\", extras = [\"all\"] }", &[], &packages, "a 1.0, b 1.0, c 1.0");
        check("a = { version = \"*\", extras = [\"none\"] }", &[], &packages, "a 1.0");
    }

    #[test]
    fn extras_of_the_project() {
        let packages = [
            ("a 1.0", "[package.dependencies]\nz = \"*\""),
            ("x 1.0", "[package.dependencies]\nz = \"*\"\nw = \"*\""),
            ("y 1.0", "[package.dependencies]\nw = \"*\""),
            ("w 1.0", ""),
            ("z 1.0", ""),
        ];
        let optional = "{ version = \"*\", optional = true }";
        let dependencies = format!("a = \"*\"\nx = {optional}\ny = {optional}");
        check(&dependencies, &[], &packages, "a 1.0, z 1.0");
        check(&dependencies, &["one"], &packages, "a 1.0, w 1.0, x 1.0, z 1.0");
        check(&dependencies, &["one", "two"], &packages, "a 1.0, w 1.0, x 1.0, y 1.0, z 1.0");
    }

    #[test]
    fn sources() {
        let index = |name: &str| {
            format!(
                "[package.source]\ntype = \"legacy\"\nurl = \"https://example.org\"\nreference = \"{name}\""
            )
        };
        let (gpu, git) = (index("GPU"), "[package.source]\ntype = \"git\"\nurl = \"x\"");
        let packages = [("a 1.0+cpu", ""), ("a 1.0+gpu", gpu.as_str()), ("b 1.0", ""), ("b 0.9", git)];
        check("a = { version = \"1.0\", source = \"gpu\" }", &[], &packages, "a 1.0+gpu");
        check("a = { version = \"1.0\", source = \"PyPI\" }", &[], &packages, "a 1.0+cpu");
        check("b = { git = \"x\", branch = \"main\" }", &[], &packages, "b 0.9");
        check("b = \"*\"", &[], &packages, "b 1.0");
    }

    #[test]
    fn what_does_not_fit_together() {
        let packages = [
            ("a 1.0", "[package.dependencies]\nb = \"<2\""),
            ("b 2.0", ""),
            ("b 1.0", "python-versions = \"<3.9\""),
        ];
        check(
            "a = \"*\"",
            &[],
            &packages,
            "nothing can be selected from poetry.lock: its packages don't fit together for cp311 on manylinux_2_36_x86_64: \
             a 1.0 needs b in a version that is not locked for this Python, pyproject.toml needs a 1.0; run `poetry lock`",
        );
        check(
            "gone = \"*\"",
            &[],
            &packages,
            "nothing can be selected from poetry.lock: its packages don't fit together for cp311 on manylinux_2_36_x86_64: \
             pyproject.toml needs gone in a version that is not locked for this Python; run `poetry lock`",
        );
        check(
            "a = \"^\"",
            &[],
            &packages,
            "pyproject.toml can't be read as pyproject.toml: dependency a: \"^\": expected version to start with a number, but no leading ASCII digits were found",
        );
    }
}
