//! A resolution as a uv project: its pyproject.toml and its uv.lock.
//!
//! uv.lock is the lock of a project, and it is universal: uv resolves it for every environment that the project allows. Bare
//! requirements have no project, so they get one that is nothing but its requirements, and that allows what a lock can say of
//! the target: `tool.uv.environments` with its CPU, Linux and CPython, and `requires-python` from its version to the end of
//! that minor version. What a lock can't say is the C library, so there may be wheels for all of them in it.

use std::path::Path;
use std::str::FromStr as _;

use imgforge_resolver_core::{Architecture, Artifact, Target};
use toml::{Table, Value};
use uv_configuration::Override;
use uv_distribution_types::{Index, IndexUrl, Requirement, RequirementSource, RequiresPython};
use uv_normalize::PackageName;
use uv_pep440::VersionSpecifiers;
use uv_pep508::{MarkerTree, VerbatimUrl};
use uv_pypi_types::VerbatimParsedUrl;
use uv_requirements_txt::{RequirementEntry, RequirementsTxtRequirement};
use uv_resolver::{Lock, Preference, Preferences, PythonRequirement, ResolverEnvironment, ResolverManifest};

use crate::error::{Error, plain, without_credentials};
use crate::guard::guarded;
use crate::indexes::{index_error, runtime};
use crate::local::Hashes;
use crate::request::Prereleases;
use crate::resolve::{Asked, hasher, locations, options};
use crate::selection::Selection;
use crate::solver::{Question, ask};
use crate::target::Environment;
use crate::uv_lock::{folder, uv_lock};

/// The project's name, which no requirement has.
const NAME: &str = "imgforge-environment";

/// What messages call a file that there is not yet.
const LOCK: &str = "uv.lock";

/// The pyproject.toml of a project with the requirements that were asked for.
pub(crate) fn pyproject(asked: &Asked) -> Result<String, Error> {
    let table = manifest(asked)?;
    let text = toml::to_string(&table).map_err(|error| unsupported(plain(&error)))?;
    Ok(without_credentials(&text))
}

/// Its uv.lock, which has these artifacts for the target.
pub(crate) fn lock(asked: &Asked, artifacts: &[Artifact], hashes: &Hashes) -> Result<String, Error> {
    let file = &asked.file;
    let environment = Environment::new(&asked.target)?;
    let text = guarded(&asked.request.text(), file, || {
        // uv reads a project's requirements from its folder. It is a root of its own, so that no folder above it matters.
        let project = tempfile::tempdir().map_err(|error| index_error(file, &error))?;
        let mut table = manifest(asked)?;
        if let Some(Value::Table(tool)) = table.get_mut("tool")
            && let Some(Value::Table(uv)) = tool.get_mut("uv")
        {
            uv.insert("workspace".to_owned(), Value::Table(Table::new()));
        }
        let text = toml::to_string(&table).map_err(|error| unsupported(plain(&error)))?;
        std::fs::write(project.path().join("pyproject.toml"), text)
            .map_err(|error| index_error(file, &error))?;
        runtime(file)?.block_on(universal(asked, &environment, project.path(), artifacts))
    })?;
    let text = without_credentials(&hashes.in_toml(&text).map_err(unsupported)?);
    let lock = folder(file)?.join(LOCK);
    let found = uv_lock(
        &text,
        &lock,
        None,
        &Selection { buildable: sources(artifacts), ..Selection::default() },
        &asked.target,
    )?;
    match found
        .iter()
        .zip(artifacts)
        .find(|(found, wanted)| (&found.file, &found.sha256) != (&wanted.file, &wanted.sha256))
    {
        None if found.len() == artifacts.len() => Ok(text),
        different => {
            let example = different.map_or_else(
                || "it has others".to_owned(),
                |(found, wanted)| format!("it has {} in the place of {}", found.file, wanted.file),
            );
            Err(unsupported(format!(
                "no uv.lock has the same files for {}: {example}; write a pylock.toml or a requirements.txt",
                environment.words
            )))
        }
    }
}

async fn universal(
    asked: &Asked,
    environment: &Environment,
    project: &Path,
    artifacts: &[Artifact],
) -> Result<String, Error> {
    let file = &asked.file;
    // In uv's words, as the pyproject.toml has them: a path that was given as a relative one is absolute in these.
    let parsed = asked.request.parse(file)?.absolute().parse(file)?;
    let requires = requires_python(&asked.target);
    let requires = VersionSpecifiers::from_str(&requires).map_err(|error| unsupported(plain(&error)))?;
    let requires = RequiresPython::from_specifiers(requires);
    let marker = MarkerTree::from_str(&marker(&asked.target)).map_err(|error| unsupported(plain(&error)))?;
    let name = PackageName::from_str(NAME).map_err(|error| unsupported(plain(&error)))?;
    let url = VerbatimUrl::from_absolute_path(project).map_err(|error| unsupported(plain(&error)))?;
    let root = Requirement {
        name: name.clone(),
        extras: Box::default(),
        groups: Box::default(),
        marker: MarkerTree::TRUE,
        source: RequirementSource::Directory {
            install_path: project.into(),
            editable: Some(false),
            r#virtual: Some(true),
            url,
        },
        origin: None,
    };
    let environments = ResolverEnvironment::universal(vec![marker]);
    let preferences = Preferences::from_iter(artifacts.iter().filter_map(preference), &environments);
    let locations = locations(asked)?;
    let question = Question {
        manifest: parsed.manifest(Some(root), preferences),
        options: options(&parsed),
        python: PythonRequirement::from_marker_environment(&environment.markers, requires),
        environment: environments,
        target: environment,
        tags: None,
        hasher: &hasher(),
    };
    let output =
        ask(question, locations.clone(), &asked.indexes, file).await.map_err(|error| match error {
            Error::Unsatisfiable { file, target, explanation, hints } => {
                let target = format!("all environments of a uv.lock that has {target}");
                Error::Unsatisfiable { file, target, explanation, hints }
            }
            error => error,
        })?;
    let folder = folder(file)?;
    let manifest = ResolverManifest::new(
        [],
        [],
        parsed.constraints,
        parsed.overrides.into_iter().map(Override::Requirement),
        [],
        [],
        [],
        [],
    );
    let manifest = manifest.relative_to(&folder).map_err(|error| unsupported(plain(&error)))?;
    let lock = Lock::from_resolution(&output, manifest, &folder, vec![marker], &locations)
        .map_err(|error| unsupported(plain(&error)))?;
    let text = lock.to_toml().map_err(|error| unsupported(plain(&error)))?;
    at_root(&text).ok_or_else(|| unsupported("uv wrote no project into it".to_owned()))
}

/// A lock's text whose one project lies where the lock does, and not where uv was shown it.
fn at_root(text: &str) -> Option<String> {
    const START: &str = "source = { virtual = \"";
    let (before, rest) = text.split_once(START)?;
    let (_, after) = rest.split_once('"')?;
    Some(format!("{before}{START}.\"{after}"))
}

/// The project's pyproject.toml. Requirements are in uv's words: their paths do not depend on where it lies.
fn manifest(asked: &Asked) -> Result<Table, Error> {
    let Asked { request, file, target, indexes } = asked;
    let parsed = request.parse(file)?;
    let words = parsed.absolute();
    let mut project = Table::new();
    project.insert("name".to_owned(), NAME.into());
    project.insert("version".to_owned(), "0".into());
    project.insert("requires-python".to_owned(), requires_python(target).into());
    project.insert("dependencies".to_owned(), strings(words.requirements));
    let mut uv = Table::new();
    uv.insert("package".to_owned(), false.into());
    uv.insert("environments".to_owned(), strings([marker(target)]));
    let narrowed =
        [("constraint-dependencies", words.constraints), ("override-dependencies", words.overrides)];
    for (key, requirements) in narrowed {
        if !requirements.is_empty() {
            uv.insert(key.to_owned(), strings(requirements));
        }
    }
    if let Some(moment) = &parsed.exclude_newer.global {
        uv.insert("exclude-newer".to_owned(), moment.timestamp().to_string().into());
    }
    let prerelease = match request.prereleases {
        Prereleases::IfNecessary => None,
        Prereleases::Allow => Some("allow"),
        Prereleases::Disallow => Some("disallow"),
        Prereleases::Explicit => Some("explicit"),
    };
    if let Some(mode) = prerelease {
        uv.insert("prerelease".to_owned(), mode.into());
    }
    if request.no_build {
        uv.insert("no-build".to_owned(), true.into());
    }
    // As they were given: uv takes an absolute path in the place of a relative one for another index.
    let url = |index: &Index, given: &str| match &index.url {
        IndexUrl::Path(_) => given.to_owned(),
        url => url.without_credentials().to_string(),
    };
    let (given, links) = indexes.given(file)?;
    let texts = indexes.extra.iter().chain(&indexes.index);
    let given: Vec<Value> = given
        .iter()
        .zip(texts)
        .map(|(index, text)| {
            let mut table = Table::new();
            table.insert("url".to_owned(), url(index, text).into());
            if index.default {
                table.insert("default".to_owned(), true.into());
            }
            Value::Table(table)
        })
        .collect();
    if !given.is_empty() {
        uv.insert("index".to_owned(), Value::Array(given));
    }
    if !links.is_empty() {
        let texts = links.iter().zip(&indexes.find_links).map(|(index, text)| url(index, text));
        uv.insert("find-links".to_owned(), strings(texts));
    }
    let tool = Table::from_iter([("uv".to_owned(), Value::Table(uv))]);
    Ok(Table::from_iter([
        ("project".to_owned(), Value::Table(project)),
        ("tool".to_owned(), Value::Table(tool)),
    ]))
}

fn strings(texts: impl IntoIterator<Item = String>) -> Value {
    Value::Array(texts.into_iter().map(Value::String).collect())
}

/// From the target's version to the end of its minor version.
fn requires_python(target: &Target) -> String {
    let mut parts = target.python.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match parts.next().unwrap_or_default() {
        0 => format!("=={major}.{minor}.*"),
        patch => format!(">={major}.{minor}.{patch},<{major}.{}", minor + 1),
    }
}

/// What a lock can say of the target.
fn marker(target: &Target) -> String {
    let machine = match target.architecture {
        Architecture::Amd64 => "x86_64",
        Architecture::Arm64 => "aarch64",
    };
    format!(
        "platform_machine == '{machine}' and platform_python_implementation == 'CPython' and sys_platform == 'linux'"
    )
}

/// That a version is to be taken again, if it may.
fn preference(artifact: &Artifact) -> Option<Preference> {
    let pin = format!("{}=={}", artifact.name, artifact.version);
    let requirement = uv_pep508::Requirement::<VerbatimParsedUrl>::from_str(&pin).ok()?;
    let requirement = RequirementsTxtRequirement::Named(requirement);
    Preference::from_entry(RequirementEntry { requirement, hashes: Vec::new() }).ok().flatten()
}

/// The packages of which a source distribution was chosen.
fn sources(artifacts: &[Artifact]) -> Vec<String> {
    let sources = artifacts.iter().filter(|artifact| !artifact.file.ends_with(".whl"));
    sources.map(|artifact| artifact.name.clone()).collect()
}

fn unsupported(message: String) -> Error {
    Error::Unsupported { file: LOCK.into(), message }
}

#[cfg(test)]
mod tests {
    use imgforge_resolver_core::Libc;

    use super::*;

    #[track_caller]
    fn check_python(python: &str, expect: &str) {
        let libc = Libc::Glibc { major: 2, minor: 36 };
        let target = Target { python: python.to_owned(), architecture: Architecture::Amd64, libc };
        assert_eq!(requires_python(&target), expect);
    }

    #[test]
    fn versions_of_python() {
        check_python("3.9", "==3.9.*");
        check_python("3.12.0", "==3.12.*");
        check_python("3.12.7", ">=3.12.7,<3.13");
    }

    #[test]
    fn the_project_lies_beside_its_lock() {
        let text = "[[package]]\nname = \"a\"\nsource = { virtual = \"../../tmp/x\" }\n";
        let expect = "[[package]]\nname = \"a\"\nsource = { virtual = \".\" }\n";
        assert_eq!(at_root(text).as_deref(), Some(expect));
        assert_eq!(at_root("version = 1\n"), None);
    }
}
