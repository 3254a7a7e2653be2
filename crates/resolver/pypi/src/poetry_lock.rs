//! `poetry.lock`: the lock of a Poetry project.
//!
//! Which packages are installed is what `poetry install` decides from the lock, and nothing is resolved again: from
//! format 2.1 on, the lock says of each package which groups need it and under which markers; an earlier one is
//! [walked](walk). The wheel of each is chosen among the files that the lock has, by uv's tags, and only then an index
//! is asked where it is, since Poetry locks names and hashes without URLs.
//!
//! What Poetry does and this does not: it installs the project itself, which is in no lock; and folders and repositories
//! (where a package says `develop`, in place), which have no wheels and are refused here by name.

mod constraint;
mod lock;
mod project;
mod requirement;
mod walk;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use imgforge_resolver_core::{Artifact, Target};
use uv_distribution_filename::{DistFilename, WheelFilename};
use uv_normalize::{ExtraName, GroupName, PackageName};
use uv_platform_tags::Tags;
use uv_pypi_types::HashDigest;

use self::constraint::Constraint;
use self::lock::{Entry, Format, Lock, Source};
use self::project::Project;
use crate::artifact::{Gathered, sha256, wheel_name};
use crate::error::{Error, Reason, plain_text};
use crate::guard::{check_depth, guarded};
use crate::indexes::{Indexes, Wanted, places, runtime};
use crate::selection::{Defaults, Selection};
use crate::target::Environment;
use crate::uv_lock::folder;

/// What writes a lock again.
const LOCK: &str = "run `poetry lock`";

/// Reads a `poetry.lock` and finds what is to be installed for `target`, by name.
///
/// `file` is the lock's path: messages name it, and paths in the lock are relative to its folder. `pyproject` is the text
/// of the `pyproject.toml` beside it, with which the lock's `content-hash` is compared.
///
/// Groups mean what they do elsewhere: `main` is always wanted, others when they are asked for. With [`Defaults::With`],
/// all that are not optional come in, as `poetry install` has them.
///
/// A package that somebody builds is its source distribution, which has to be among the lock's files.
///
/// Files are looked for at the given `indexes`, then where the lock says, which is PyPI unless an `index` stands in for
/// it. Nothing but the file with the locked name and hash is taken. A wheel that is among the `pinned`, which an earlier
/// run found, is taken from there, and no index is asked for it.
///
/// # Errors
///
/// [`Error::Parse`] and [`Error::FormatVersion`] for the text; [`Error::Stale`] when pyproject.toml has changed since;
/// [`Error::RequiresPython`], [`Error::Extra`] and [`Error::Group`] when the lock has not what is asked for;
/// [`Error::Select`] when it contradicts itself; [`Error::Index`] when an index can't be asked; and [`Error::Unusable`]
/// with every package that has no usable wheel.
pub fn poetry_lock(
    text: &str,
    file: &Path,
    pyproject: &str,
    selection: &Selection,
    target: &Target,
    indexes: &Indexes,
    pinned: &[Artifact],
) -> Result<Vec<Artifact>, Error> {
    let environment = Environment::new(target)?;
    check_depth(pyproject, &file.with_file_name("pyproject.toml"))?;
    guarded(text, file, || {
        let unsupported =
            |message: &str| Error::Unsupported { file: file.to_owned(), message: message.to_owned() };
        if selection.package.is_some() {
            return Err(unsupported(
                "a poetry.lock has no workspace members: leave `package` out, or use uv.lock",
            ));
        }
        if selection.install_project {
            return Err(unsupported(
                "the project itself can't be installed from a lock: copy its code with `files`",
            ));
        }
        let lock = Lock::parse(text, file)?;
        let project = Project::parse(pyproject, file)?;
        check(&lock, &project, file, &environment)?;
        let extras = extras(&lock, file, selection)?;
        let groups = groups(&project, file, selection)?;
        let entries = entries(&lock, &project, file, &groups, &extras, &environment)?;

        artifacts(&entries, file, selection, indexes, pinned, &environment)
    })
}

/// Whether the lock is of the project and for the target.
fn check(lock: &Lock, project: &Project, file: &Path, environment: &Environment) -> Result<(), Error> {
    let hash = lock.content_hash.as_deref().unwrap_or_default();
    if !project.is_locked_by(hash, lock.poetry.as_ref()) {
        return Err(Error::Stale { file: file.to_owned(), mend: "poetry lock" });
    }
    let requires = plain_text(&lock.python_versions);
    let allowed: Constraint = lock.python_versions.parse().map_err(|why| Error::Parse {
        file: file.to_owned(),
        format: "poetry.lock",
        message: plain_text(&format!("python-versions: {why}")),
    })?;
    if !allowed.allows(environment.python()) {
        let python = environment.python().to_string();
        return Err(Error::RequiresPython { file: file.to_owned(), requires, python });
    }
    Ok(())
}

fn extras(lock: &Lock, file: &Path, selection: &Selection) -> Result<Vec<ExtraName>, Error> {
    let extras = selection.extra_names(file)?;
    if let Some(name) = extras.iter().find(|&name| !lock.extras.contains_key(name)) {
        return Err(Error::Extra {
            file: file.to_owned(),
            name: name.to_string(),
            extras: lock.extras.keys().map(ToString::to_string).collect(),
        });
    }
    Ok(if selection.all_extras { lock.extras.keys().cloned().collect() } else { extras })
}

/// The groups that are wanted, `main` among them unless others are wanted alone.
fn groups(project: &Project, file: &Path, selection: &Selection) -> Result<BTreeSet<GroupName>, Error> {
    let known = project.groups();
    let named = selection.group_names(file)?;
    if let Some(name) = named.iter().find(|&name| !known.contains_key(name)) {
        return Err(Error::Group {
            file: file.to_owned(),
            name: name.to_string(),
            groups: known.keys().map(ToString::to_string).collect(),
        });
    }
    let defaults = selection.default_groups == Defaults::With;
    let is_wanted = |name: &GroupName, is_optional: bool| {
        selection.all_groups
            || (name.as_ref() == project::MAIN && !selection.only_groups)
            || named.contains(name)
            || (defaults && !is_optional)
    };
    Ok(known
        .into_iter()
        .filter(|(name, is_optional)| is_wanted(name, *is_optional))
        .map(|(name, _)| name)
        .collect())
}

/// The packages that are wanted.
fn entries<'lock>(
    lock: &'lock Lock,
    project: &Project,
    file: &Path,
    groups: &BTreeSet<GroupName>,
    extras: &[ExtraName],
    environment: &Environment,
) -> Result<Vec<&'lock Entry>, Error> {
    if lock.format != Format::V2_1 {
        return walk::walk(lock, file, &project.requirements(groups)?, extras, environment);
    }
    let mut wanted = Vec::new();
    for entry in &lock.entries {
        for (_, markers) in entry.groups.iter().filter(|(name, _)| groups.contains(*name)) {
            let markers = requirement::markers(markers).map_err(|why| Error::Parse {
                file: file.to_owned(),
                format: "poetry.lock",
                message: plain_text(&format!("package {}: {why}", entry.name)),
            })?;
            if markers.evaluate(environment.markers.markers(), extras) {
                wanted.push(entry);
                break;
            }
        }
    }
    Ok(wanted)
}

/// The file of each package, from where it is.
fn artifacts(
    entries: &[&Entry],
    file: &Path,
    selection: &Selection,
    indexes: &Indexes,
    pinned: &[Artifact],
    environment: &Environment,
) -> Result<Vec<Artifact>, Error> {
    let (built, buildable) = selection.built_names();
    let folder = folder(file)?;
    let mut gathered = Gathered::new(LOCK);
    let mut names = BTreeSet::new();
    let mut wanted = Vec::new();
    for entry in entries {
        let version = Some(entry.version.to_string());
        if !names.insert(&entry.name) {
            gathered.refuse(entry.name.as_ref(), version, Reason::Twice);
            continue;
        }
        match place(entry, &folder, environment, &built, &buildable) {
            Ok(Known::AtIndex(file)) => match pinned.iter().find(|it| file.is(it)) {
                Some(found) => {
                    let (name, version) = (entry.name.to_string(), entry.version.to_string());
                    gathered.insert(Artifact { name, version, ..found.clone() });
                }
                None => wanted.push((version, file)),
            },
            Ok(Known::Somewhere { wheel, sha256, url }) => gathered.file(&wheel, version, sha256, url, None),
            Err(reason) => gathered.refuse(entry.name.as_ref(), version, reason),
        }
    }
    // What can't be installed anyway is told before anybody is asked anything.
    if gathered.is_refused() || wanted.is_empty() {
        return gathered.finish(file);
    }
    let (versions, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
    let found = runtime(file)?.block_on(places(&wanted, indexes, file, LOCK))?;
    for ((version, wanted), place) in versions.into_iter().zip(wanted).zip(found) {
        match place {
            Ok(place) => match &wanted.filename {
                DistFilename::WheelFilename(wheel) => {
                    gathered.file(wheel, version, Some(wanted.sha256), place.url, place.size);
                }
                DistFilename::SourceDistFilename(sdist) => {
                    let name = sdist.name.as_ref();
                    gathered.sdist_file(name, version, Some(wanted.sha256), place.url, place.size);
                }
            },
            Err(reason) => gathered.refuse(wanted.filename.name().as_ref(), version, reason),
        }
    }
    gathered.finish(file)
}

/// What is known of a file's place.
enum Known {
    AtIndex(Wanted),
    Somewhere { wheel: WheelFilename, sha256: Option<String>, url: Result<String, String> },
}

/// The wheel of a package, or why there is none; its source distribution, where that is `built`, or `buildable` without a
/// wheel.
fn place(
    entry: &Entry,
    folder: &Path,
    environment: &Environment,
    built: &[PackageName],
    buildable: &[PackageName],
) -> Result<Known, Reason> {
    let index = match &entry.source {
        Source::Pypi => None,
        Source::Index { url, .. } => Some(url.clone()),
        Source::Url(url) => return direct(entry, Ok(url.clone()), url, environment),
        Source::File(path) => {
            let path = join(folder, path);
            let url = url::Url::from_file_path(&path).map_err(|()| format!("{} is no path", path.display()));
            return direct(entry, url.map(String::from), &path.display().to_string(), environment);
        }
        Source::Directory(path) => return Err(Reason::Directory { path: join(folder, path) }),
        Source::Git(url) => return Err(Reason::Source { origin: plain_text(&format!("git {url}")) }),
    };
    let wheel =
        || best(entry, &environment.tags).map(|(wheel, sha256)| (DistFilename::WheelFilename(wheel), sha256));
    let sdist = || {
        let (sdist, file) = entry.sdist()?;
        Some((DistFilename::SourceDistFilename(sdist), hash(&file.hash)))
    };
    let chosen = if built.contains(&entry.name) {
        let message = "the lock has no source distribution of it".to_owned();
        Some(sdist().ok_or(Reason::Location { message })?)
    } else if buildable.contains(&entry.name) {
        wheel().or_else(sdist)
    } else {
        wheel()
    };
    let (filename, sha256) = chosen.ok_or_else(|| no_wheel(entry, environment))?;
    let Some(sha256) = sha256 else {
        return Err(Reason::NoHash { file: filename.to_string(), mend: LOCK });
    };
    Ok(Known::AtIndex(Wanted { filename, sha256, index }))
}

/// A path of the lock, which may lead out of its folder, as a plain one.
fn join(folder: &Path, path: &str) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            component => plain.push(component),
        }
    }
    plain
}

/// A package that is a file by URL or path. `words` are either for messages.
fn direct(
    entry: &Entry,
    url: Result<String, String>,
    words: &str,
    environment: &Environment,
) -> Result<Known, Reason> {
    let Some(wheel) = url.as_deref().ok().and_then(wheel_name) else {
        return Err(Reason::Source { origin: plain_text(words) });
    };
    if wheel.name != entry.name {
        return Err(Reason::Location { message: format!("{wheel} is a wheel of {}", wheel.name) });
    }
    if !wheel.is_compatible(&environment.tags) {
        return Err(Reason::NoWheel { wheels: vec![wheel.to_string()], target: environment.words.clone() });
    }
    let sha256 = entry.wheels().find(|(locked, _)| *locked == wheel).and_then(|(_, file)| hash(&file.hash));
    Ok(Known::Somewhere { wheel, sha256, url })
}

/// The wheel that fits best, as uv chooses: the one for the most special tags, and of several builds the last.
fn best(entry: &Entry, tags: &Tags) -> Option<(WheelFilename, Option<String>)> {
    entry
        .wheels()
        .filter(|(wheel, _)| wheel.is_compatible(tags))
        .max_by(|(a, _), (b, _)| {
            let priority = |wheel: &WheelFilename| wheel.compatibility(tags);
            priority(a).cmp(&priority(b)).then_with(|| a.build_tag().cmp(&b.build_tag()))
        })
        .map(|(wheel, file)| (wheel, hash(&file.hash)))
}

fn no_wheel(entry: &Entry, environment: &Environment) -> Reason {
    let wheels: Vec<String> = entry.wheels().map(|(wheel, _)| wheel.to_string()).collect();
    if !wheels.is_empty() {
        return Reason::NoWheel { wheels, target: environment.words.clone() };
    }
    let files: Vec<&str> = entry.files.iter().map(|file| file.file.as_str()).collect();
    let origin =
        if files.is_empty() { "no file is locked".to_owned() } else { plain_text(&files.join(", ")) };
    Reason::Source { origin }
}

fn hash(text: &str) -> Option<String> {
    sha256(&[text.parse::<HashDigest>().ok()?])
}

#[cfg(test)]
mod tests {
    use imgforge_resolver_core::{Architecture, Libc};

    use super::*;

    /// From format 2.1 on a lock says itself what walking it would find: each is the other's test.
    fn check(python: &str, architecture: Architecture, extras: &[&str], groups: &[&str]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/locks/poetry-2.1");
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file to read");
        let file = folder.join("poetry.lock");
        let lock = Lock::parse(&text("poetry.lock"), &file).expect("a lock");
        let project = Project::parse(&text("pyproject.toml"), &file).expect("a project");
        let libc = Libc::Glibc { major: 2, minor: 36 };
        let environment = Environment::new(&Target { python: python.to_owned(), architecture, libc });
        let environment = environment.expect("an environment");
        let extras: Vec<ExtraName> = extras.iter().map(|it| it.parse().expect("an extra")).collect();
        let groups: BTreeSet<GroupName> =
            groups.iter().chain(&["main"]).map(|it| it.parse().expect("a group")).collect();

        let names = |entries: Vec<&Entry>| -> Vec<String> {
            entries.iter().map(|entry| format!("{} {}", entry.name, entry.version)).collect()
        };
        let said = entries(&lock, &project, &file, &groups, &extras, &environment);
        let roots = project.requirements(&groups).expect("requirements");
        let walked = walk::walk(&lock, &file, &roots, &extras, &environment);
        assert_eq!(
            names(said.expect("a selection")),
            names(walked.expect("a selection")),
            "{python} {extras:?} {groups:?}"
        );
    }

    #[test]
    fn a_lock_says_what_walking_it_finds() {
        // Not for 3.10, where two versions of requests would do, and only the lock knows which of them was meant.
        for python in ["3.9", "3.11.2", "3.12"] {
            for architecture in [Architecture::Amd64, Architecture::Arm64] {
                for extras in [&[][..], &["server"], &["pretty-print"], &["server", "pretty-print"]] {
                    for groups in [&[][..], &["dev"], &["docs"], &["lint", "dev", "docs"]] {
                        check(python, architecture, extras, groups);
                    }
                }
            }
        }
    }
}
