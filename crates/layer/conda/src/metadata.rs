//! What a package says about itself, below `info/`.

use std::convert::Infallible;
use std::path::Path;

use rattler_conda_types::package::{
    EntryPoint, Files, HasPrefix, IndexJson, LinkJson, NoArchLinks, NoLink, NoSoftlink, PackageFile,
    PathType, PathsJson,
};

use crate::Problem;
use crate::archive::FileName;
use crate::contents::{Contents, Item};

/// Which list says what a package's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// `info/paths.json`.
    Paths,
    /// `info/files` and its companions, of packages from before 2017.
    Files,
}

impl List {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Paths => "info/paths.json",
            Self::Files => "info/files",
        }
    }
}

/// Reads `info/index.json`, which must be of the package that the file is named after.
pub(crate) fn index(contents: &Contents, file_name: &FileName<'_>) -> Result<IndexJson, Problem> {
    const NAME: &str = "info/index.json";
    let index: IndexJson = parse(contents, NAME)?.ok_or(Problem::Missing { name: NAME })?;
    check_identity(&index, [file_name.name, file_name.version, file_name.build], "the file name")?;
    Ok(index)
}

/// Compares name, version and build with what somebody expects.
pub(crate) fn check_identity(
    index: &IndexJson,
    [name, version, build]: [&str; 3],
    whose: &'static str,
) -> Result<(), Problem> {
    let is_name = [index.name.as_source(), index.name.as_normalized()].contains(&name);
    let name = (!is_name).then_some(("name", index.name.as_source().to_owned(), name));
    let found = index.version.as_str().into_owned();
    let version = (found != version).then_some(("version", found, version));
    let found = index.build.to_string();
    let build = (found != build).then_some(("build", found, build));
    match name.or(version).or(build) {
        Some((field, found, expected)) => {
            let found = found.escape_debug().to_string();
            Err(Problem::Identity { field, found, expected: expected.to_owned(), whose })
        }
        None => Ok(()),
    }
}

/// Reads the list of a package's files: `info/paths.json`, or what packages had before there was one.
pub(crate) fn paths(contents: &Contents) -> Result<(PathsJson, List), Problem> {
    if let Some(paths) = parse(contents, "info/paths.json")? {
        return Ok((paths, List::Paths));
    }
    let files: Files = parse(contents, "info/files")?.ok_or(Problem::Missing { name: "info/paths.json" })?;
    let has_prefix: Option<HasPrefix> = parse(contents, "info/has_prefix")?;
    let no_link: Option<NoLink> = parse(contents, "info/no_link")?;
    let no_softlink: Option<NoSoftlink> = parse(contents, "info/no_softlink")?;
    let kind = |path: &Path| {
        let path = path.to_str().unwrap_or_default();
        Ok(match contents.get(path) {
            Some(Item::Symlink(_)) => PathType::SoftLink,
            Some(Item::File(_)) => PathType::HardLink,
            _ if contents.is_directory(path) => PathType::Directory,
            // What is not there is reported when it is looked for.
            _ => PathType::HardLink,
        })
    };
    let Ok(paths) = PathsJson::from_deprecated::<Infallible>(files, has_prefix, no_link, no_softlink, kind);
    Ok((paths, List::Files))
}

/// The entry points of a noarch package of Python modules.
pub(crate) fn entry_points(contents: &Contents) -> Result<Vec<EntryPoint>, Problem> {
    const NAME: &str = "info/link.json";
    let Some(link) = parse::<LinkJson>(contents, NAME)? else { return Ok(Vec::new()) };
    match link.noarch {
        NoArchLinks::Python(python) => Ok(python.entry_points),
        NoArchLinks::Generic => Err(Problem::Metadata {
            name: NAME,
            reason: "it is for a package of data, and the package is one of Python modules".to_owned(),
        }),
    }
}

fn parse<T: PackageFile>(contents: &Contents, name: &'static str) -> Result<Option<T>, Problem> {
    let Some(text) = contents.info(name)? else { return Ok(None) };
    T::from_str(&text).map(Some).map_err(|error| {
        let reason = error.to_string().escape_debug().to_string();
        Problem::Metadata { name, reason }
    })
}
