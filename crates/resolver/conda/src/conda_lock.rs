//! `conda-lock.yml` (CEP 37): packages by platform and category, with the wheels that pip is to install.

use std::collections::BTreeSet;
use std::path::Path;

use imgforge_resolver_core::CondaEnvironment;
use rattler_conda_lock::{Document, LockFile as Model, Package};
use rattler_lock::LockFile;
use rattler_lock::conda_lock::{CondaLockError, ImportOptions};

use crate::error::{Error, Reason, line_of, plain, plain_text};
use crate::guard::{guarded, read};
use crate::location::folder;
use crate::package::{Gathered, Noarch};
use crate::pixi_lock::locked;

/// The category that is always installed.
const MAIN: &str = "main";

/// The name that the selection gets on its way through rattler.
const ENVIRONMENT: &str = "default";

/// What of a `conda-lock.yml` is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CondaLockSelection {
    /// Categories besides `main`. conda-lock makes one of each extra, dependency group and source file's `category`
    /// (`dev`, `docs`, …); none of them is installed unasked.
    pub categories: Vec<String>,
}

/// Reads a `conda-lock.yml` and selects what is to be installed on `subdir` (`linux-64`).
///
/// `file` is the lock's path: messages name it. The format does not say of what kind a package without a platform is; all of
/// them count as Python's here, which is told when they are read.
///
/// # Errors
///
/// [`Error::Parse`] for the text, [`Error::Platform`] and [`Error::Category`] for what the lock does not have, and
/// [`Error::Unusable`] with every package that can't be installed.
pub fn conda_lock(
    text: &str,
    file: &Path,
    selection: &CondaLockSelection,
    subdir: &str,
) -> Result<CondaEnvironment, Error> {
    guarded(file, || {
        let folder = folder(file).map_err(|message| Error::Unsupported { file: file.to_owned(), message })?;
        let parse_error =
            |message: String| Error::Parse { file: file.to_owned(), format: "conda-lock.yml", message };
        let at = |line: Option<usize>, message: String| match line {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        };
        let document = read(
            || Document::parse(text),
            |error| at(error.span().map(|span| line_of(text, span.start)), plain(&error)),
        )
        .map_err(parse_error)?;
        let model = document.lock_file();
        if !model.metadata.platforms.iter().any(|platform| platform == subdir) {
            return Err(Error::Platform {
                file: file.to_owned(),
                environment: None,
                platform: plain_text(subdir),
                platforms: model.metadata.platforms.iter().map(|platform| plain_text(platform)).collect(),
            });
        }
        let categories = categories(model, file, selection)?;

        let mut gathered =
            Gathered::new(subdir, Noarch::Unknown, "run `conda-lock lock` again, which records hashes");
        // Only what is wanted: trouble with another platform is nobody's here.
        let (kept, packages) = wanted(model, &categories, subdir, &mut gathered);
        let model = Model { metadata: model.metadata.clone(), package: packages };
        let environments = [(ENVIRONMENT.to_owned(), categories)].into();
        let options = ImportOptions { environments };
        let lock = read(
            || LockFile::from_conda_lock(&model, &options),
            |error| {
                let (line, message) = located(&error, &model, &kept, &document, text);
                at(line, message)
            },
        )
        .map_err(parse_error)?;
        let packages = lock
            .environment(ENVIRONMENT)
            .and_then(|environment| Some((environment, lock.platform(subdir)?)))
            .into_iter()
            .flat_map(|(environment, platform)| {
                environment.packages(platform).into_iter().flatten().cloned().collect::<Vec<_>>()
            });
        for package in packages {
            locked(&package, &folder, false, &mut gathered);
        }
        gathered.finish(file)
    })
}

fn categories(model: &Model, file: &Path, selection: &CondaLockSelection) -> Result<BTreeSet<String>, Error> {
    let known: BTreeSet<&str> =
        model.package.iter().map(|package| package.category.as_str()).chain([MAIN]).collect();
    if let Some(name) = selection.categories.iter().find(|name| !known.contains(name.as_str())) {
        return Err(Error::Category {
            file: file.to_owned(),
            name: plain_text(name),
            categories: known.into_iter().map(plain_text).collect(),
        });
    }
    Ok(selection.categories.iter().cloned().chain([MAIN.to_owned()]).collect())
}

/// The packages of the selection with their places in the lock. Those that are locked as sources are refused here, by name.
fn wanted(
    model: &Model,
    categories: &BTreeSet<String>,
    subdir: &str,
    gathered: &mut Gathered<'_>,
) -> (Vec<usize>, Vec<Package>) {
    let (mut kept, mut packages) = (Vec::new(), Vec::new());
    for (index, package) in model.package.iter().enumerate() {
        if package.platform != subdir || !categories.contains(&package.category) {
            continue;
        }
        let source = package.source.as_ref().map(|source| source.url.as_str());
        let source = source.or_else(|| package.url.starts_with("git+").then_some(package.url.as_str()));
        match source {
            Some(source) => {
                let origin = url::Url::parse(source)
                    .map_or_else(|_| plain_text(source), |url| crate::wheel::origin(&url));
                gathered.refuse(&package.name, Some(package.version.clone()), Reason::Source { origin });
            }
            None => {
                kept.push(index);
                packages.push(package.clone());
            }
        }
    }
    (kept, packages)
}

/// Where in the text a conversion failed, and why, with the package's name.
fn located(
    error: &CondaLockError,
    model: &Model,
    kept: &[usize],
    document: &Document,
    text: &str,
) -> (Option<usize>, String) {
    let reason = plain(error.kind());
    let place = || {
        let (index, field) = error.path().as_str().strip_prefix("package[")?.split_once(']')?;
        let index: usize = index.parse().ok()?;
        let name = &model.package.get(index)?.name;
        let span = document.span(&format!("package[{}]{field}", kept.get(index)?));
        Some((span, name.clone(), field.trim_start_matches('.').to_owned()))
    };
    match place() {
        Some((span, name, field)) => (
            span.map(|span| line_of(text, span.start)),
            plain_text(&format!("{field} of package {name}: {reason}")),
        ),
        None => (None, plain_text(&format!("{}: {reason}", error.path().as_str()))),
    }
}
