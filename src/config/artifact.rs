//! `[artifact.NAME]`: what is built once, in a sandbox.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{ConfigError, absolute, table, unknown};
use super::environment::check_priority;
use super::{Base, Config, Environment, Limits, OneOrMany, When};
use crate::plan::PRIORITY;

/// Something that is built in a sandbox, once for each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// What it is built from, and what comes out.
    pub source: Source,
    /// The environment with the Python that it is built with and, unless `requires` names another, what the build needs.
    pub env: Option<String>,
    /// An environment with what the build needs.
    pub requires: Option<String>,
    /// The root filesystem that it is built in.
    pub builder: String,
    /// What, besides source and recipe, makes it another artifact: names of axes.
    pub key: Vec<String>,
    /// Variables of the build.
    pub build_env: BTreeMap<String, String>,
    /// Settings for a build backend (PEP 517).
    pub config_settings: BTreeMap<String, Vec<String>>,
    /// Where its build is stopped. No part of its key.
    pub limits: Limits,
    /// How seldom it changes, from 0 to 100.
    pub cache_priority: u8,
}

/// What an artifact is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A source distribution of the environment's lock, which becomes a wheel.
    Sdist {
        /// The package.
        package: String,
    },
    /// A folder of the host, which becomes a wheel.
    Project {
        /// Relative to images.toml.
        folder: PathBuf,
        /// What of it the build sees: gitignore's patterns. Empty: everything.
        inputs: Vec<String>,
    },
    /// A shell script, whose files go into images.
    Script {
        /// Its text.
        script: String,
        /// A folder of the host that it works in.
        project: Option<Folder>,
        /// Files that it finds in `/build/sources`.
        sources: Vec<SourceFile>,
        /// What is taken from it: absolute paths, which stand at the same paths in images.
        outputs: Vec<String>,
    },
}

/// A folder of the host, as a script sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Relative to images.toml.
    pub folder: PathBuf,
    /// What of it the script sees: gitignore's patterns. Empty: everything.
    pub inputs: Vec<String>,
}

/// A file that a script works on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SourceFile {
    /// Where it is: a URL, or a path relative to images.toml.
    pub url: String,
    /// Of its bytes: 64 hexadecimal digits.
    pub sha256: String,
    /// What it is called in `/build/sources`. Default: the end of the URL.
    #[serde(default)]
    pub name: Option<String>,
}

impl SourceFile {
    /// What it is called in `/build/sources`.
    pub fn file_name(&self) -> &str {
        let end = self.url.split(['?', '#']).next().unwrap_or_default();
        self.name.as_deref().unwrap_or_else(|| end.rsplit('/').next().unwrap_or_default())
    }
}

/// An artifact as it is written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ArtifactTable {
    /// A package that the lock of `env` has as a source distribution: the wheel made of it takes its place in every
    /// environment that locks it.
    sdist: Option<String>,
    /// A folder, relative to images.toml. With a pyproject.toml its wheel goes into environments with `artifacts`; with a
    /// `script`, that runs in it.
    project: Option<PathBuf>,
    /// What of `project` the build sees, and what makes it another artifact: gitignore's patterns. Default: everything.
    inputs: Vec<String>,
    /// The text of a shell script: its `outputs` go into images with `artifacts`.
    script: Option<String>,
    /// Files that a script finds in /build/sources.
    sources: Vec<SourceFile>,
    /// What a script leaves, as absolute paths.
    outputs: Vec<String>,
    /// The environment that it is built against.
    env: Option<String>,
    /// An environment with the build's requirements. Default: `env`, without isolation.
    requires: Option<String>,
    /// The root filesystem that it is built in: a name of `[base]`.
    builder: Option<String>,
    /// What makes it another artifact besides source and recipe: `python`, `cuda`, names of packages, `builder` (all of
    /// it), `env` (all of it). Default: `builder` and `env`.
    key: Option<Vec<String>>,
    /// Variables of the build.
    build_env: BTreeMap<String, String>,
    /// Settings for the build backend (PEP 517).
    config_settings: BTreeMap<String, OneOrMany>,
    /// Where its build is stopped; what is not said here is as in `[settings]`.
    limits: Limits,
    /// How seldom a script's files change, from 0 to 100: layers of what changes seldom are below. Default: 50.
    cache_priority: Option<u8>,
    /// For which values of the matrix it is there.
    pub(super) when: When,
}

pub(super) fn artifact(name: &str, written: ArtifactTable) -> Result<Artifact, ConfigError> {
    let ArtifactTable { sdist, project, inputs, script, sources, outputs, env, requires, builder, .. } =
        written;
    let wrong = |problem: &str| Err(table(name, problem));
    if project.is_none() && !inputs.is_empty() {
        return wrong("`inputs` is for a `project`");
    }
    if script.is_none() && !(sources.is_empty() && outputs.is_empty()) {
        return wrong("`sources` and `outputs` are for a `script`");
    }
    let source = match (sdist, project, script) {
        (Some(package), None, None) => Source::Sdist { package },
        (None, Some(folder), None) => Source::Project { folder, inputs },
        (None, project, Some(script)) => {
            let project = project.map(|folder| Folder { folder, inputs });
            Source::Script { script, project, sources, outputs }
        }
        _ => return wrong("say what it is built from: one of `sdist`, `project` and `script`"),
    };
    if let Source::Script { sources, outputs, project, .. } = &source {
        if outputs.is_empty() {
            return wrong("`outputs` is empty: name what the script leaves, as absolute paths");
        }
        if let Some(path) = outputs.iter().find(|path| !absolute(path)) {
            return Err(table(name, format!("outputs: `{path}` is no absolute path without `.` or `..`")));
        }
        // In a key, the project stands beside the files.
        let mut names: std::collections::BTreeSet<&str> = project.iter().map(|_| "project").collect();
        for file in sources {
            let is_hex = file.sha256.len() == 64
                && file.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hex {
                let problem =
                    format!("sources: sha256 of {} is not 64 lower-case hexadecimal digits", file.url);
                return Err(table(name, problem));
            }
            let own = file.file_name();
            if matches!(own, "" | "." | "..") || own.contains('/') || !names.insert(own) {
                let problem = format!("sources: {} needs a `name` of its own, without folders", file.url);
                return Err(table(name, problem));
            }
        }
    } else if env.is_none() {
        return wrong("`env` is missing: the environment with the Python that builds it");
    }
    let Some(builder) = builder else {
        return wrong("`builder` is missing: the root filesystem that it is built in, a name of [base]");
    };
    let has_environments = env.is_some() || requires.is_some();
    let both = || {
        let env = has_environments.then(|| "env".to_owned());
        std::iter::once("builder".to_owned()).chain(env).collect()
    };
    check_priority(name, written.cache_priority.unwrap_or(PRIORITY))?;
    let is_variable = |variable: &String| !variable.is_empty() && !variable.contains(['=', '\0']);
    if let Some(variable) = written.build_env.keys().find(|variable| !is_variable(variable)) {
        return Err(table(
            name,
            format!("build-env: `{}` is no name of a variable", variable.escape_default()),
        ));
    }
    Ok(Artifact {
        source,
        requires,
        builder,
        key: written.key.unwrap_or_else(both),
        env,
        build_env: written.build_env,
        limits: written.limits,
        cache_priority: written.cache_priority.unwrap_or(PRIORITY),
        config_settings: written.config_settings.into_iter().map(|(key, values)| (key, values.0)).collect(),
    })
}

/// Refuses an output that would be behind a link of Debian's merged `/usr`.
fn check_outputs(at: &str, artifact: &Artifact) -> Result<(), ConfigError> {
    let Source::Script { outputs, .. } = &artifact.source else { return Ok(()) };
    let behind = |path: &String| Some((path.clone(), imgforge_layer::deb::behind_link(path)?));
    match outputs.iter().find_map(behind) {
        Some((path, behind)) => Err(table(at, format!("outputs: {path} is behind a link: write {behind}"))),
        None => Ok(()),
    }
}

/// Checks the names that artifacts use, and the artifacts that environments and images use.
pub(super) fn check_artifacts(config: &Config) -> Result<(), ConfigError> {
    for (name, artifact) in &config.artifacts {
        let at = format!("artifact.{name}");
        let title = title(name);
        if title.is_empty() || !title.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(table(&at, "an artifact's name has letters, digits, `.`, `_` and `-`"));
        }
        match config.bases.get(&artifact.builder) {
            None => return Err(unknown(&at, "base", &artifact.builder, config.bases.keys())),
            Some(Base::Scratch) => {
                return Err(table(&at, "builder: an empty root filesystem builds nothing"));
            }
            Some(Base::Debian(_)) => check_outputs(&at, artifact)?,
            Some(Base::Image(_)) => {}
        }
        for environment in artifact.env.iter().chain(&artifact.requires) {
            if !config.environments.contains_key(environment) {
                return Err(unknown(&at, "env", environment, config.environments.keys()));
            }
        }
    }
    for (name, environment) in &config.environments {
        for artifact in &environment.artifacts {
            match config.artifacts.get(artifact).map(|artifact| &artifact.source) {
                Some(Source::Project { .. } | Source::Sdist { .. }) => {}
                Some(_) => {
                    let problem =
                        format!("artifacts: [artifact.{artifact}] is a `script`, whose files go into images");
                    return Err(table(&format!("env.{name}"), problem));
                }
                None => {
                    return Err(unknown(
                        &format!("env.{name}"),
                        "artifact",
                        artifact,
                        config.artifacts.keys(),
                    ));
                }
            }
        }
    }
    for (name, environment) in &config.environments {
        check_editable(config, &format!("env.{name}"), environment)?;
    }
    for (name, image) in &config.images {
        for artifact in &image.artifacts {
            match config.artifacts.get(artifact).map(|artifact| &artifact.source) {
                Some(Source::Script { .. }) => {}
                Some(_) => {
                    let problem = format!(
                        "artifacts: [artifact.{artifact}] is a wheel, which belongs into an environment"
                    );
                    return Err(table(&format!("image.{name}"), problem));
                }
                None => {
                    return Err(unknown(
                        &format!("image.{name}"),
                        "artifact",
                        artifact,
                        config.artifacts.keys(),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Checks what an environment has installed for development.
fn check_editable(config: &Config, at: &str, environment: &Environment) -> Result<(), ConfigError> {
    for (name, sources) in &environment.editable {
        let own = environment.artifacts.iter().find(|artifact| title(artifact) == name);
        let Some(own) = own else {
            return Err(table(at, format!("editable: `{name}` is none of its `artifacts`")));
        };
        if !matches!(config.artifacts.get(own).map(|it| &it.source), Some(Source::Project { .. })) {
            return Err(table(at, format!("editable: [artifact.{name}] is no `project`")));
        }
        if !absolute(sources) {
            let problem = format!(
                "editable: {name} = \"{sources}\" is no absolute path without `.` or `..`, such as \"/app/src\""
            );
            return Err(table(at, problem));
        }
    }
    Ok(())
}

/// An artifact's name, without the point of the matrix that it is for.
pub(crate) fn title(name: &str) -> &str {
    name.split('[').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::check;

    const GOOD: &str = "version = 1\n[base.b]\ndebian = \"bookworm\"\npackages = [\"gcc\"]\n[env.e]\nlock = \"uv.lock\"\n\
        prefix = \"/v\"\n[image.i]\nbase = \"b\"\n";

    #[track_caller]
    fn check_table(table: &str, expected: &str) {
        check(&format!("{GOOD}[artifact.a]\n{table}\n"), expected);
    }

    #[test]
    fn what_artifacts_need() {
        check_table("sdist = \"x\"\nenv = \"e\"\nbuilder = \"b\"\nkey = [\"python\"]", "");
        check_table("script = \"make\"\nbuilder = \"b\"\noutputs = [\"/usr/local\"]", "");
        check_table(
            "script = \"make\"\nbuilder = \"b\"\noutputs = [\"/usr/local\"]\ncache-priority = 101",
            "[artifact.a]: cache-priority = 101 is more than 100",
        );
        let one = "[artifact.a]: say what it is built from: one of `sdist`, `project` and `script`";
        check_table("builder = \"b\"", one);
        check_table("sdist = \"x\"\nscript = \"y\"\nbuilder = \"b\"", one);
        check_table(
            "sdist = \"x\"\nbuilder = \"b\"",
            "[artifact.a]: `env` is missing: the environment with the Python that builds it",
        );
        check_table(
            "sdist = \"x\"\nenv = \"e\"",
            "[artifact.a]: `builder` is missing: the root filesystem that it is built in, a name of [base]",
        );
        check_table("sdist = \"x\"\nenv = \"e\"\nbuilder = \"c\"", "[artifact.a]: there is no [base.c]");
        check_table("sdist = \"x\"\nenv = \"f\"\nbuilder = \"b\"", "[artifact.a]: there is no [env.f]");
        check_table(
            "script = \"make\"\nbuilder = \"b\"",
            "[artifact.a]: `outputs` is empty: name what the script leaves, as absolute paths",
        );
        let sources = |sources: &str, expected: &str| {
            check_table(
                &format!("script = \"s\"\nbuilder = \"b\"\noutputs = [\"/o\"]\nsources = [{sources}]"),
                expected,
            );
        };
        sources(
            "{ url = \"https://example.org/a.tar\", sha256 = \"00\" }",
            "[artifact.a]: sources: sha256 of https://example.org/a.tar is not 64 lower-case hexadecimal digits",
        );
        let hex = "0".repeat(64);
        sources(
            &format!("{{ url = \"https://example.org/\", sha256 = \"{hex}\" }}"),
            "[artifact.a]: sources: https://example.org/ needs a `name` of its own, without folders",
        );
        let in_folder =
            "project = \"tool\"\ninputs = [\"*.c\"]\nscript = \"make\"\nbuilder = \"b\"\noutputs = [\"/o\"]";
        check_table(in_folder, "");
        check_table(
            &format!("{in_folder}\nsources = [{{ url = \"x/project\", sha256 = \"{hex}\" }}]"),
            "[artifact.a]: sources: x/project needs a `name` of its own, without folders",
        );
    }

    #[test]
    fn outputs_behind_links() {
        check_table(
            "script = \"s\"\nbuilder = \"b\"\noutputs = [\"/bin/tool\"]",
            "[artifact.a]: outputs: /bin/tool is behind a link: write /usr/bin/tool",
        );
    }

    #[test]
    fn who_uses_them() {
        let with = |text: &str| {
            format!("{GOOD}{text}[artifact.a]\nscript = \"s\"\nbuilder = \"b\"\noutputs = [\"/o\"]\n")
        };
        check(&with("artifacts = [\"a\"]\n"), "");
        check(&with("artifacts = [\"b\"]\n"), "[image.i]: there is no [artifact.b]");
        check(
            &with("[env.f]\nlock = \"uv.lock\"\nprefix = \"/w\"\nartifacts = [\"a\"]\n"),
            "[env.f]: artifacts: [artifact.a] is a `script`, whose files go into images",
        );
    }

    #[test]
    fn what_is_installed_for_development() {
        let with = |editable: &str| {
            let environment = "[env.f]\nlock = \"uv.lock\"\nprefix = \"/w\"\nartifacts = [\"a\", \"s\"]";
            let build = "env = \"f\"\nbuilder = \"b\"";
            format!(
                "{GOOD}{environment}\neditable = {editable}\n[artifact.a]\nproject = \".\"\n{build}\n[artifact.s]\nsdist = \"s\"\n{build}\n"
            )
        };
        check(&with("{ a = \"/app/src\" }"), "");
        check(&with("{ b = \"/app/src\" }"), "[env.f]: editable: `b` is none of its `artifacts`");
        check(&with("{ s = \"/app/src\" }"), "[env.f]: editable: [artifact.s] is no `project`");
        check(
            &with("{ a = \"src\" }"),
            "[env.f]: editable: a = \"src\" is no absolute path without `.` or `..`, such as \"/app/src\"",
        );
    }
}
