//! `[env.NAME]`: the table, and what of it can't be meant.

use std::collections::BTreeMap;
use std::path::PathBuf;

use imgforge_resolver::LockKind;
use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{ConfigError, absolute, table, unknown};
use super::{Links, When};
use crate::plan::PRIORITY;

/// One lock, installed at one prefix.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Environment {
    /// The environment whose table this one adds to: its values are taken over unless set here, its lists come first.
    #[serde(default)]
    pub(super) extends: Option<String>,
    /// The lock file, relative to images.toml: `uv.lock`, `pylock.toml`, `requirements.txt` with hashes, `poetry.lock` with
    /// its pyproject.toml beside it, `pixi.lock`, `conda-lock.yml`, an `@EXPLICIT` list with hashes, or `environment.yml`,
    /// which is resolved into images.lock.
    #[serde(default)]
    pub lock: PathBuf,
    /// The lock's format, for a name that does not tell it: `uv`, `pylock`, `requirements`, `poetry`, `pixi`,
    /// `conda-lock`, `explicit`, `environment-yml`.
    #[serde(default)]
    pub kind: Option<String>,
    /// Where the environment lies in the image: `/opt/venv`. Not with `into`.
    #[serde(default)]
    pub prefix: String,
    /// The conda environment whose site-packages the wheels go into.
    #[serde(default)]
    pub into: Option<String>,
    /// Packages of the lock that are left out: the project itself, or what a conda environment has already.
    #[serde(default)]
    pub no_install_package: Vec<String>,
    /// Names of `[artifact]`: projects whose wheels are installed too, and source distributions that are built although the
    /// lock has a wheel.
    #[serde(default)]
    pub artifacts: Vec<String>,
    /// Those of `artifacts` that are installed for development, each with the folder of the image that has the project's
    /// sources and is put on `sys.path`: `{ app = "/app/src" }`. The wheel's compiled modules are put there, and its other
    /// modules are left out.
    #[serde(default)]
    pub editable: BTreeMap<String, String>,
    /// How seldom it changes, from 0 to 100: layers of what changes seldom are below others of their kind. Default: 50.
    #[serde(default = "priority")]
    pub cache_priority: u8,
    /// What images leave out of its packages: gitignore's patterns, relative to the prefix: `["tests", "*.a", "/include"]`.
    /// Builds of artifacts see everything.
    #[serde(default)]
    pub strip: Vec<String>,
    /// The environment of a pixi.lock that is installed. Default: `default`.
    #[serde(default)]
    pub environment: Option<String>,
    /// What conda packages' link scripts mean. Default: a package that has one is refused.
    #[serde(default)]
    pub link_scripts: Option<LinkScripts>,
    /// Conda packages that a lock has only the MD5 of and that are pinned as they are found, by name; `*` stands for all.
    #[serde(default)]
    pub allow_md5: Vec<String>,
    /// What an `environment.yml` may count on beside `__unix`, `__linux` and `__archspec`: `{ __cuda = "12.8", __glibc = "2.36" }`.
    /// Default of `__glibc`: as for `glibc`.
    #[serde(default)]
    pub virtual_packages: BTreeMap<String, String>,
    /// CPython's version, `3.11` or `3.11.2`. Default: the base's.
    #[serde(default)]
    pub python: Option<String>,
    /// What `bin/python` links to. Default: the base's interpreter of that version.
    #[serde(default)]
    pub interpreter: Option<String>,
    /// The newest glibc that wheels may ask for: `2.36`. Default: the oldest of the bases that use the environment.
    #[serde(default)]
    pub glibc: Option<String>,
    /// The newest musl that wheels may ask for: `1.2`. Excludes `glibc`.
    #[serde(default)]
    pub musl: Option<String>,
    /// The workspace member that is installed. Default: the lock's root project.
    #[serde(default)]
    pub package: Option<String>,
    /// Extras.
    #[serde(default)]
    pub extras: Vec<String>,
    /// Dependency groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Dependency groups that are installed alone, without the project's own dependencies. Excludes `extras`, `groups` and
    /// `default-groups`.
    #[serde(default)]
    pub only_groups: Vec<String>,
    /// Whether the project's default groups are installed too.
    #[serde(default)]
    pub default_groups: bool,
    /// Symbolic links that it has beside its packages' files, by their paths relative to the prefix:
    /// `{ "lib64" = "lib", "lib/libcudart.so" = "libcudart.so.13" }`.
    #[serde(default)]
    pub links: Links,
    /// What happens when two packages bring one path with different content.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// For which values of the matrix it is there.
    #[serde(default)]
    pub(crate) when: When,
}

impl Environment {
    /// The format of its lock, as the table or the file's name tells it.
    pub fn lock_kind(&self) -> Option<LockKind> {
        let name = self.lock.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match &self.kind {
            Some(kind) => LockKind::from_name(kind),
            None => LockKind::from_file_name(name).ok(),
        }
    }
}

/// What conda packages' link scripts mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkScripts {
    /// They are installed and not run.
    Ignore,
    /// They are run in the sandbox, and what they change is one further layer.
    Run,
}

/// What happens when two packages of an environment bring one path with different content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// The package with the later name wins, and the plan says so.
    #[default]
    Later,
    /// The build fails.
    Error,
}

/// Checks environments; those that go into another one get its prefix.
pub(super) fn environments(
    mut tables: BTreeMap<String, Environment>,
) -> Result<BTreeMap<String, Environment>, ConfigError> {
    let hosts: BTreeMap<String, (bool, String)> = tables
        .iter()
        .filter(|(_, environment)| environment.into.is_none())
        .map(|(name, environment)| {
            let is_conda = environment.lock_kind().is_some_and(LockKind::is_conda);
            (name.clone(), (is_conda, environment.prefix.clone()))
        })
        .collect();
    for (name, environment) in &mut tables {
        let at = format!("env.{name}");
        if let Some(into) = environment.into.clone() {
            if !environment.prefix.is_empty() {
                return Err(table(&at, "`into` and `prefix` exclude each other"));
            }
            let (is_conda, prefix) =
                hosts.get(&into).ok_or_else(|| unknown(&at, "env", &into, hosts.keys()))?;
            if !is_conda {
                return Err(table(&at, format!("into: [env.{into}] is no conda environment")));
            }
            if environment.lock_kind().is_some_and(LockKind::is_conda) {
                return Err(table(&at, "`into` is for wheels: a conda environment has a prefix of its own"));
            }
            environment.prefix = prefix.clone();
        }
        check_environment(&at, environment)?;
    }
    Ok(tables)
}

/// The priority of an environment that says nothing of it.
const fn priority() -> u8 {
    PRIORITY
}

/// Checks a `cache-priority`.
pub(super) fn check_priority(name: &str, priority: u8) -> Result<(), ConfigError> {
    match priority {
        0..=100 => Ok(()),
        _ => Err(table(name, format!("cache-priority = {priority} is more than 100"))),
    }
}

/// Checks the patterns of a `strip`.
pub(super) fn check_strip(name: &str, patterns: &[String]) -> Result<(), ConfigError> {
    match imgforge_layer::Strip::new([(String::new(), patterns.to_vec())]) {
        Ok(_) => Ok(()),
        Err(error) => Err(table(name, format!("strip: `{}` is no pattern: {}", error.pattern, error.source))),
    }
}

fn check_environment(name: &str, environment: &Environment) -> Result<(), ConfigError> {
    if let Some(kind) = &environment.kind
        && LockKind::from_name(kind).is_none()
    {
        let kinds = LockKind::ALL.map(|kind| format!("`{kind}`")).join(", ");
        return Err(table(name, format!("kind = \"{kind}\" is none of {kinds}")));
    }
    if environment.lock.as_os_str().is_empty() {
        return Err(table(name, "`lock` is missing: the lock file, relative to images.toml"));
    }
    check_priority(name, environment.cache_priority)?;
    check_strip(name, &environment.strip)?;
    let kind = environment.lock_kind();
    check_conda(name, environment, kind)?;
    let of_projects = [
        ("extras", !environment.extras.is_empty()),
        ("groups", !environment.groups.is_empty()),
        ("only-groups", !environment.only_groups.is_empty()),
        ("package", environment.package.is_some()),
        ("default-groups", environment.default_groups),
    ];
    if kind == Some(LockKind::Requirements)
        && let Some((key, _)) = of_projects.iter().find(|(_, set)| *set)
    {
        return Err(table(
            name,
            format!(
                "`{key}` means nothing with a requirements.txt, which is installed as a whole: choose when it is written"
            ),
        ));
    }
    if !environment.only_groups.is_empty() {
        let excluded = |key: &str| matches!(key, "extras" | "groups" | "default-groups");
        if let Some((key, _)) = of_projects.iter().find(|(key, set)| *set && excluded(key)) {
            return Err(table(name, format!("`only-groups` and `{key}` exclude each other")));
        }
        if !matches!(kind, Some(LockKind::Uv | LockKind::Poetry)) {
            return Err(table(name, "`only-groups` is for a uv.lock or a poetry.lock"));
        }
    }
    if environment.prefix.is_empty() {
        return Err(table(name, "`prefix` is missing: where the environment lies in the image"));
    }
    if !absolute(&environment.prefix) {
        return Err(table(name, "prefix is an absolute path without `.` or `..`, such as `/opt/venv`"));
    }
    if environment.interpreter.as_deref().is_some_and(|path| !absolute(path)) {
        return Err(table(
            name,
            "interpreter is an absolute path in the image, such as `/usr/bin/python3.11`",
        ));
    }
    if environment.glibc.is_some() && environment.musl.is_some() {
        return Err(table(name, "`glibc` and `musl` exclude each other"));
    }
    let version =
        |text: &str| text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    for (key, value) in
        [("python", &environment.python), ("glibc", &environment.glibc), ("musl", &environment.musl)]
    {
        if let Some(text) = value
            && (!version(text) || !text.contains('.'))
        {
            return Err(table(name, format!("{key} = \"{text}\" is no version such as \"3.11\"")));
        }
    }
    Ok(())
}

/// Keys that only conda environments have, and those that they don't.
fn check_conda(name: &str, environment: &Environment, kind: Option<LockKind>) -> Result<(), ConfigError> {
    let Some(kind) = kind else { return Ok(()) };
    let for_conda = [
        ("link-scripts", environment.link_scripts.is_some()),
        ("allow-md5", !environment.allow_md5.is_empty()),
    ];
    let not_for_conda = [
        ("python", environment.python.is_some()),
        ("interpreter", environment.interpreter.is_some()),
        ("musl", environment.musl.is_some()),
        ("only-groups", !environment.only_groups.is_empty()),
        ("package", environment.package.is_some()),
    ];
    let wrong = match kind.is_conda() {
        true => not_for_conda.iter().find(|(_, set)| *set),
        false => for_conda.iter().find(|(_, set)| *set),
    };
    if let Some((key, _)) = wrong {
        let kinds =
            if kind.is_conda() { "a conda environment, which has its own Python" } else { "this lock" };
        return Err(table(name, format!("`{key}` means nothing with {kinds}")));
    }
    if environment.into.is_some() && (environment.python.is_some() || environment.interpreter.is_some()) {
        return Err(table(
            name,
            "with `into` the Python is the conda environment's: leave out `python` and `interpreter`",
        ));
    }
    if environment.environment.is_some() && kind != LockKind::Pixi {
        return Err(table(name, "`environment` is for a pixi.lock, which has several"));
    }
    let selects =
        !environment.extras.is_empty() || !environment.groups.is_empty() || environment.default_groups;
    if selects && kind.is_conda() && kind != LockKind::CondaLock {
        return Err(table(
            name,
            format!("`extras` and `groups` mean nothing with a lock of the kind `{kind}`"),
        ));
    }
    if !environment.virtual_packages.is_empty() && kind != LockKind::EnvironmentYml {
        return Err(table(
            name,
            "`virtual-packages` is for an environment.yml, which is resolved: a lock has been",
        ));
    }
    for (package, version) in &environment.virtual_packages {
        let is_name =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !package.starts_with("__") || !is_name(package) || version.contains(char::is_whitespace) {
            let problem =
                format!("virtual-packages: `{package} = \"{version}\"` is none such as `__cuda = \"12.8\"`");
            return Err(table(name, problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{GOOD, check};

    #[test]
    fn conda_environments() {
        let at = |text: &str| format!("[env.c]\nlock = \"pixi.lock\"\nprefix = \"/c\"\n{text}");
        let conda = |text: &str, expected: &str| check(&format!("{GOOD}{}", at(text)), expected);
        conda("strip = [\"/include\", \"*.a\"]", "");
        conda(
            "strip = [\"a{\"]",
            "[env.c]: strip: `a{` is no pattern: error parsing glob 'a{': unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
        );
        conda("environment = \"gpu\"\nlink-scripts = \"ignore\"\nallow-md5 = [\"a\"]", "");
        conda(
            "python = \"3.11\"",
            "[env.c]: `python` means nothing with a conda environment, which has its own Python",
        );
        conda(
            "virtual-packages = { __cuda = \"12\" }",
            "[env.c]: `virtual-packages` is for an environment.yml, which is resolved: a lock has been",
        );
        conda("kind = \"environment-yml\"\nvirtual-packages = { __cuda = \"12\" }", "");
        conda(
            "kind = \"environment-yml\"\nvirtual-packages = { cuda = \"12\" }",
            "[env.c]: virtual-packages: `cuda = \"12\"` is none such as `__cuda = \"12.8\"`",
        );
        conda(
            "groups = [\"dev\"]",
            "[env.c]: `extras` and `groups` mean nothing with a lock of the kind `pixi`",
        );
        conda(
            "[env.w]\nlock = \"uv.lock\"\nprefix = \"/w\"\nlink-scripts = \"ignore\"",
            "[env.w]: `link-scripts` means nothing with this lock",
        );
    }

    #[test]
    fn wheels_into_conda_environments() {
        let check_into = |envs: &str, table: &str, expected: &str| {
            let conda = "[env.c]\nlock = \"pixi.lock\"\nprefix = \"/c\"\n[env.v]\nlock = \"uv.lock\"\nprefix = \"/v\"\n";
            check(&format!("{GOOD}envs = {envs}\n{conda}[env.w]\n{table}\n"), expected);
        };
        let both = "[\"c\", \"w\"]";
        check_into(both, "lock = \"uv.lock\"\ninto = \"c\"", "");
        check_into(
            both,
            "lock = \"uv.lock\"\ninto = \"c\"\nprefix = \"/x\"",
            "[env.w]: `into` and `prefix` exclude each other",
        );
        check_into(
            both,
            "lock = \"uv.lock\"\ninto = \"v\"",
            "[env.w]: into: [env.v] is no conda environment",
        );
        check_into(both, "lock = \"uv.lock\"\ninto = \"d\"", "[env.w]: there is no [env.d]");
        check_into(
            both,
            "lock = \"pixi.lock\"\ninto = \"c\"",
            "[env.w]: `into` is for wheels: a conda environment has a prefix of its own",
        );
        check_into(
            both,
            "lock = \"uv.lock\"",
            "[env.w]: `prefix` is missing: where the environment lies in the image",
        );
        check_into(
            "[\"w\", \"c\"]",
            "lock = \"uv.lock\"\ninto = \"c\"",
            "[image.i]: [env.w] goes into [env.c]: `envs` must have `c` before it",
        );
    }
}
