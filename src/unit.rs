//! Units: what layers are made of, each with the recipe that turns it into a tree.
//!
//! A unit's *identity* is everything that decides its bytes, as canonical JSON. A layer's key is the hash of its units'
//! identities, the codec and the epoch, so that a layer can be looked up before anything is fetched, and what is not in
//! an identity can't change a layer.

mod conda;
mod editable;
mod input;
mod part;
pub(crate) mod sift;

use std::sync::Arc;

use imgforge_layer::wheel::{self, Scheme};
use imgforge_layer::{Codec, Kind, LAYER_FORMAT, Strip, Tree, TreePath};
use imgforge_oci::{Digest, json};
use imgforge_resolver::debian::PinnedPackage;
use imgforge_resolver::{Architecture, Artifact, CondaNoarch, CondaPackage, CondaPython};
use serde_json::json;

use crate::config::User;
use crate::facts::Facts;
use crate::plan::{Item, PRIORITY, Rank};
use crate::workshop::Workshop;
use crate::{Error, artifacts, clobbers, debian, users};

pub use conda::{Clobbers, CondaUnit};
pub use editable::EditableUnit;
pub use input::{Input, Place};
pub use part::Part;

/// Something indivisible that layers are made of.
#[derive(Clone, Debug)]
pub struct Unit {
    /// What the plan needs to know of it.
    pub item: Item,
    /// What a reader calls it: `numpy 2.1.0`.
    pub title: String,
    /// How it becomes a tree.
    pub recipe: Recipe,
}

/// How a unit becomes a tree.
#[derive(Clone, Debug)]
pub enum Recipe {
    /// The folders and links that a Debian root filesystem starts with.
    Skeleton(Architecture),
    /// A Debian package.
    Debian(PinnedPackage),
    /// dpkg's database and what else the packages amount to together.
    DebianGlue {
        /// All packages of the root filesystem, by name.
        packages: Arc<[PinnedPackage]>,
    },
    /// A virtual environment's own files.
    Environment {
        /// Where it has its files.
        scheme: Scheme,
        /// What `bin/python` links to.
        interpreter: String,
        /// CPython's version as far as it is known.
        version: String,
    },
    /// A wheel, installed.
    Wheel {
        /// The wheel.
        artifact: Artifact,
        /// Where it goes.
        scheme: Scheme,
        /// The lock's path as images.toml has it, for messages.
        lock: String,
    },
    /// A wheel, installed for development.
    Editable(Arc<EditableUnit>),
    /// A conda environment's own files.
    CondaEnvironment {
        /// Where it lies.
        prefix: TreePath,
    },
    /// A conda package, linked.
    Conda(Arc<CondaUnit>),
    /// What linking several conda packages to one path amounts to.
    Clobbers(Arc<Clobbers>),
    /// Additions to `/etc/passwd` and `/etc/group`.
    Users {
        /// The base's packages, whose files are added to; empty for an empty base.
        base: Arc<[PinnedPackage]>,
        /// The users.
        users: Vec<User>,
    },
    /// The same over the texts of an image's files.
    UsersOver {
        /// What is known of the image.
        base: Arc<Facts>,
        /// The users.
        users: Vec<User>,
    },
    /// Files that stand above those of other packages: wheels, and the paths that each of them wins.
    Winners(Vec<(Arc<Unit>, Vec<String>)>),
    /// Files of the host, read into a tree already.
    Files(Arc<Tree>),
    /// Symbolic links that images.toml asks for.
    Links {
        /// The links.
        tree: Arc<Tree>,
        /// The prefix of their environment, in which all that there is is known.
        within: Option<TreePath>,
    },
    /// Files that a script left.
    Built(Built),
    /// What is still to be built.
    Pending,
    /// What some images keep of a package, and others leave out.
    Sifted {
        /// The package.
        whole: Arc<Unit>,
        /// All ways in which images leave things out of it.
        strips: Arc<[Strip]>,
        /// Which of them leave this part out, as bits; 0 for what all keep.
        by: u8,
    },
    /// Some of a unit's files, where all of them are too many for a layer.
    Part {
        /// The unit.
        whole: Arc<Unit>,
        /// Which of its parts.
        part: Part,
    },
}

/// Files that a script left, as a tar: an artifact's, or what packages' own scripts have changed.
#[derive(Clone, Debug)]
pub struct Built {
    /// Of the tar.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What it is called.
    pub file: String,
    /// The key of packages' own scripts over what they ran on.
    pub derived: Option<String>,
}

impl Unit {
    /// The root filesystem's first layer.
    pub fn skeleton(architecture: Architecture) -> Self {
        let identity = json!({"skeleton": architecture});
        Self::new(Rank::Skeleton, "skeleton", "merged /usr", None, &identity, Recipe::Skeleton(architecture))
    }

    /// A Debian package.
    pub fn debian(package: PinnedPackage) -> Self {
        let title = format!("{} {}", package.name, package.version);
        let identity = json!({"deb": package.sha256});
        let (name, size) = (package.name.clone(), Some(package.size));
        Self::new(Rank::SystemPackages, &name, &title, size, &identity, Recipe::Debian(package))
    }

    /// dpkg's database for a root filesystem.
    pub fn debian_glue(packages: Arc<[PinnedPackage]>) -> Self {
        let identity = json!({"dpkg": sums(&packages)});
        let recipe = Recipe::DebianGlue { packages };
        Self::new(Rank::SystemGlue, "dpkg", "dpkg database", None, &identity, recipe)
    }

    /// A virtual environment's own files.
    pub fn environment(scheme: Scheme, interpreter: String, version: String) -> Self {
        let prefix = scheme.prefix().to_string();
        let identity = json!({"venv": prefix, "interpreter": interpreter, "python": version});
        let title = format!("virtual environment {prefix}");
        let recipe = Recipe::Environment { scheme, interpreter, version };
        Self::new(Rank::Environment, &prefix, &title, None, &identity, recipe)
    }

    /// A wheel.
    pub fn wheel(artifact: Artifact, scheme: Scheme, lock: &str) -> Self {
        let title = format!("{} {}", artifact.name, artifact.version);
        let (major, minor) = scheme.python();
        // The file name, too: the name and version in the wheel are checked against it.
        let mut identity = json!({
            "wheel": artifact.sha256,
            "file": artifact.file,
            "prefix": scheme.prefix().to_string(),
            "python": format!("{major}.{minor}"),
        });
        // A virtual environment's folders follow from what is above.
        if !scheme.is_venv()
            && let Some(identity) = identity.as_object_mut()
        {
            identity.insert("site-packages".to_owned(), scheme.site_packages().into());
        }
        let (name, size) = (artifact.name.clone(), artifact.size);
        Self::new(
            Rank::Packages,
            &name,
            &title,
            size,
            &identity,
            Recipe::Wheel { artifact, scheme, lock: lock.to_owned() },
        )
    }

    /// A conda environment's own files.
    pub fn conda_environment(prefix: &TreePath) -> Self {
        let at = prefix.to_string();
        let identity = json!({"conda-environment": at});
        let title = format!("conda environment {at}");
        let recipe = Recipe::CondaEnvironment { prefix: prefix.clone() };
        Self::new(Rank::Environment, &at, &title, None, &identity, recipe)
    }

    /// A conda package. `python` is the environment's, and part of the layer's key only for a package that is linked for
    /// it.
    pub fn conda(package: CondaPackage, prefix: &TreePath, python: Option<&CondaPython>, lock: &str) -> Self {
        // A list without records says nothing of a package but its folder.
        let is_for_python = match package.noarch {
            CondaNoarch::Python => true,
            CondaNoarch::Generic => false,
            CondaNoarch::No => package.record.is_none() && package.subdir == "noarch",
        };
        let python = python.filter(|_| is_for_python).cloned();
        let (name, size) = (package.name.clone(), package.size);
        let unit = CondaUnit { package, prefix: prefix.clone(), python, lock: lock.to_owned() };
        let (identity, title) = (unit.identity(), unit.title());
        Self::new(Rank::CondaPackages, &name, &title, size, &identity, Recipe::Conda(Arc::new(unit)))
    }

    /// What linking conda packages to paths that several of them have amounts to. `disputed` says which package wins
    /// which path, as text, and is all that the others of the environment have to do with it.
    pub fn clobbers(clobbers: Clobbers, disputed: &[String]) -> Self {
        let own: Vec<_> = clobbers
            .concerned
            .iter()
            .filter_map(|&at| clobbers.packages.get(at))
            .map(|package| package.identity())
            .collect();
        let mut identity = json!({"clobbers": own, "disputed": disputed});
        if let Some(identity) = identity.as_object_mut().filter(|_| !clobbers.strip.is_empty()) {
            identity.insert("strip".to_owned(), json!(clobbers.strip));
        }
        let title = format!("{} clobbered paths", disputed.len());
        let recipe = Recipe::Clobbers(Arc::new(clobbers));
        Self::new(Rank::CondaPackages, "clobbers", &title, None, &identity, recipe)
    }

    /// Users and groups on top of a base.
    pub fn users(base: Arc<[PinnedPackage]>, users: Vec<User>) -> Self {
        let identity = json!({"users": users, "dpkg": sums(&base)});
        let names: Vec<_> = users.iter().map(|user| user.name.as_str()).collect();
        let title = format!("users {}", names.join(", "));
        Self::new(Rank::Users, "users", &title, None, &identity, Recipe::Users { base, users })
    }

    /// Users and groups on top of an image.
    pub fn users_over(base: Arc<Facts>, users: Vec<User>) -> Self {
        let identity = json!({"users": users, "passwd": base.passwd, "group": base.group});
        let names: Vec<_> = users.iter().map(|user| user.name.as_str()).collect();
        let title = format!("users {}", names.join(", "));
        Self::new(Rank::Users, "users", &title, None, &identity, Recipe::UsersOver { base, users })
    }

    /// Disputed files of an environment, from the packages whose files stand.
    pub fn winners(winners: Vec<(Arc<Self>, Vec<String>)>) -> Self {
        let listing: Vec<_> =
            winners.iter().map(|(wheel, paths)| json!([wheel.item.identity, paths])).collect();
        let identity = json!({"winners": listing});
        let count: usize = winners.iter().map(|(_, paths)| paths.len()).sum();
        let title = format!("{count} disputed files");
        Self::new(Rank::Packages, "winners", &title, None, &identity, Recipe::Winners(winners))
    }

    /// Links of an environment, or of an image.
    pub fn links(place: &str, identity: &serde_json::Value, tree: Tree, within: Option<TreePath>) -> Self {
        let recipe = Recipe::Links { tree: Arc::new(tree), within };
        Self::new(Rank::Links, place, &format!("links of {place}"), None, identity, recipe)
    }

    /// What an artifact's script left, at the paths where it left it.
    pub fn built(name: &str, title: &str, digest: Digest, size: u64) -> Self {
        let identity = json!({"built": digest.hex()});
        let built = Built { digest, size, file: format!("{name}.tar"), derived: None };
        Self::new(Rank::Artifacts, name, title, Some(size), &identity, Recipe::Built(built))
    }

    /// The unit with a place in the order of layers that images.toml says.
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.item.priority = priority;
        self
    }

    /// What packages' own scripts left. `key` is of the scripts and of what they ran on, and no part of the layer's own:
    /// where they do the same, it is one layer.
    pub fn derived(rank: Rank, title: &str, key: &str, digest: Digest, size: u64) -> Self {
        let identity = json!({"built": digest.hex()});
        let built = Built { digest, size, file: format!("{title}.tar"), derived: Some(key.to_owned()) };
        Self::new(rank, title, title, Some(size), &identity, Recipe::Built(built))
    }

    /// An artifact that is not there: for a plan, which nothing is made of.
    pub fn pending(rank: Rank, line: &str, key: &str) -> Self {
        let title = format!("{line} (to be built)");
        Self::new(rank, line, &title, None, &json!({"pending": key}), Recipe::Pending)
    }

    /// Files of the host. `number` keeps the order of several.
    pub fn files(number: usize, destination: &str, tree: Tree) -> Self {
        let listing: Vec<_> = tree
            .iter()
            .map(|(path, entry)| {
                let (kind, value) = match &entry.kind {
                    Kind::Directory => ("folder", String::new()),
                    Kind::File(file) => ("file", file.sha256.map(|digest| digest.hex()).unwrap_or_default()),
                    Kind::Symlink(target) => ("symlink", target.clone()),
                    Kind::Hardlink(target) => ("hardlink", target.as_str().to_owned()),
                };
                json!([path.as_str(), kind, entry.mode, value])
            })
            .collect();
        let identity = json!({"files": listing});
        let name = format!("{number:04} {destination}");
        let title = format!("files {destination}");
        Self::new(Rank::Files, &name, &title, None, &identity, Recipe::Files(Arc::new(tree)))
    }

    fn new(
        rank: Rank,
        name: &str,
        title: &str,
        size: Option<u64>,
        identity: &serde_json::Value,
        recipe: Recipe,
    ) -> Self {
        // Canonical JSON of a JSON value can't fail; its plain text would serve as well.
        let identity = json::canonical(identity)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_else(|_| identity.to_string());
        let item = Item { identity, name: name.to_owned(), rank, size, priority: PRIORITY };
        Self { item, title: title.to_owned(), recipe }
    }

    /// What has to be fetched before the tree can be made.
    pub fn inputs(&self) -> Vec<Input> {
        match &self.recipe {
            Recipe::Debian(package) => vec![Input::of_package(package)],
            Recipe::DebianGlue { packages, .. } | Recipe::Users { base: packages, .. } => {
                packages.iter().map(Input::of_package).collect()
            }
            Recipe::Wheel { artifact, lock, .. } => vec![Input::of_artifact(artifact, lock)],
            Recipe::Editable(unit) => vec![Input::of_artifact(&unit.artifact, &unit.lock)],
            Recipe::Winners(winners) => winners.iter().flat_map(|(wheel, _)| wheel.inputs()).collect(),
            Recipe::Conda(unit) => vec![Input::of_conda(unit)],
            Recipe::Clobbers(clobbers) => {
                let concerned = clobbers.concerned.iter().filter_map(|&at| clobbers.packages.get(at));
                concerned.map(|unit| Input::of_conda(unit)).collect()
            }
            Recipe::Part { whole, .. } | Recipe::Sifted { whole, .. } => whole.inputs(),
            Recipe::Built(built) => vec![Input::of_built(&self.title, built)],
            Recipe::Skeleton(_)
            | Recipe::Environment { .. }
            | Recipe::CondaEnvironment { .. }
            | Recipe::Pending
            | Recipe::UsersOver { .. }
            | Recipe::Links { .. }
            | Recipe::Files(_) => Vec::new(),
        }
    }

    /// The tree, from inputs that are in the store.
    ///
    /// # Errors
    /// [`Error::Unit`], with what is wrong with the artifact.
    pub fn tree(&self, workshop: &Workshop<'_>) -> Result<Tree, Error> {
        let named = |error: Box<dyn std::error::Error + Send + Sync>| Error::Unit {
            unit: self.title.clone(),
            source: error,
        };
        match &self.recipe {
            Recipe::Skeleton(architecture) => {
                debian::skeleton(*architecture).map_err(|error| named(error.into()))
            }
            Recipe::Debian(package) => debian::tree(workshop, package),
            Recipe::DebianGlue { packages } => debian::glue(workshop, packages),
            Recipe::Environment { scheme, interpreter, version } => {
                imgforge_layer::environment(scheme, interpreter, version).map_err(|error| named(error.into()))
            }
            Recipe::Wheel { artifact, scheme, .. } => {
                let source = workshop.open(digest(&artifact.sha256)?)?;
                wheel::plan(&source, &artifact.file, scheme).map_err(|error| named(error.into()))
            }
            Recipe::Editable(unit) => {
                let source = workshop.open(digest(&unit.artifact.sha256)?)?;
                let EditableUnit { artifact, scheme, sources, .. } = unit.as_ref();
                wheel::plan_editable(&source, &artifact.file, scheme, sources)
                    .map_err(|error| named(error.into()))
            }
            Recipe::Users { base, users } => {
                let below = match base.is_empty() {
                    true => Tree::new(),
                    false => debian::glue(workshop, base)?,
                };
                users::tree(&below, users).map_err(|error| named(error.into()))
            }
            Recipe::UsersOver { base, users } => {
                users::tree_over(base.passwd.clone(), base.group.clone(), users)
                    .map_err(|error| named(error.into()))
            }
            Recipe::Winners(winners) => {
                let mut tree = Tree::new();
                for (wheel, paths) in winners {
                    let own = wheel.tree(workshop)?;
                    for path in paths {
                        let path = TreePath::new(path).map_err(|error| named(error.into()))?;
                        if let Some(entry) = own.get(&path) {
                            tree.insert(path, entry.clone()).map_err(|error| named(error.into()))?;
                        }
                    }
                }
                Ok(tree)
            }
            Recipe::CondaEnvironment { prefix } => {
                imgforge_layer_conda::environment(prefix).map_err(|error| named(error.into()))
            }
            Recipe::Conda(unit) => Ok(unit.plan(workshop)?.tree),
            Recipe::Clobbers(clobbers) => clobbers::tree(workshop, clobbers),
            Recipe::Files(tree) | Recipe::Links { tree, .. } => Ok(Tree::clone(tree)),
            Recipe::Built(built) => {
                let source = workshop.open(built.digest)?;
                artifacts::tree(&source).map_err(&named)
            }
            Recipe::Pending => Err(named("it is not built yet".into())),
            Recipe::Sifted { whole, strips, by } => {
                let tree = whole.tree(workshop)?;
                imgforge_layer::sift(&tree, strips, *by).map_err(|error| named(error.into()))
            }
            Recipe::Part { whole, part } => {
                part.cut(&whole.tree(workshop)?).map_err(|error| named(error.into()))
            }
        }
    }
}

fn sums(packages: &[PinnedPackage]) -> Vec<&str> {
    packages.iter().map(|package| package.sha256.as_str()).collect()
}

/// Reads a digest as locks have it.
///
/// # Errors
/// [`Error::Digest`].
pub(crate) fn digest(hex: &str) -> Result<Digest, Error> {
    Digest::from_hex(hex).map_err(Error::Digest)
}

/// A layer that is to be there: its units, how it is stored, and the key that follows from both.
#[derive(Clone, Debug)]
pub struct LayerSpec {
    /// In the order in which they go into the tree.
    pub units: Vec<Arc<Unit>>,
    /// How it is stored.
    pub codec: Codec,
    /// Modification time of every entry, in seconds since 1970.
    pub epoch: u64,
    /// The key: 64 hexadecimal digits.
    pub key: String,
}

impl LayerSpec {
    /// Describes a layer.
    pub fn new(units: Vec<Arc<Unit>>, codec: Codec, epoch: u64) -> Self {
        let identities: Vec<_> = units.iter().map(|unit| unit.item.identity.as_str()).collect();
        let inputs =
            json!({"format": LAYER_FORMAT, "units": identities, "codec": codec.pinned(), "epoch": epoch});
        let text = json::canonical(&inputs).unwrap_or_else(|_| inputs.to_string().into_bytes());
        let key = Digest::of(&text).hex();
        Self { units, codec, epoch, key }
    }

    /// What a reader calls it: its units' names, the first few of them.
    pub fn title(&self) -> String {
        let titles: Vec<_> = self.units.iter().map(|unit| unit.title.as_str()).collect();
        match titles.as_slice() {
            [a, b, _, rest @ ..] if !rest.is_empty() => format!("{a}, {b} and {} more", rest.len() + 1),
            few => few.join(", "),
        }
    }

    /// What kind of things it holds.
    pub fn rank(&self) -> Rank {
        self.units.first().map_or(Rank::Files, |unit| unit.item.rank)
    }
}
