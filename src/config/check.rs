use std::collections::BTreeMap;
use std::ops::Range;

use imgforge_resolver::LockKind;

use super::image::ImageTable;
use super::{Base, BaseTable, Config, Debian, Environment, File, Image};

/// Why an `images.toml` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no TOML, or a key or value is not of this format.
    #[error("line {line}: {problem}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
        /// The nearest known key, for an unknown one.
        nearest: Option<String>,
    },
    /// A newer or older format.
    #[error("version = {version}: this imgforge reads version 1")]
    Version {
        /// As it is written.
        version: u32,
    },
    /// A table that can't be meant.
    #[error("[{table}]: {problem}")]
    Table {
        /// The table's name.
        table: String,
        /// What is wrong.
        problem: String,
    },
    /// A name that is nowhere defined.
    #[error("[{table}]: there is no [{kind}.{name}]")]
    Unknown {
        /// The table that uses it.
        table: String,
        /// `base`, `env` or `image`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The nearest name that is defined.
        nearest: Option<String>,
    },
}

impl ConfigError {
    /// What mends it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { nearest: Some(nearest), .. } | Self::Unknown { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`?"))
            }
            Self::Version { .. } => {
                Some("set `version = 1`, or use an imgforge that reads the file's".to_owned())
            }
            _ => None,
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    let file: File = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    if file.version != 1 {
        return Err(ConfigError::Version { version: file.version });
    }
    let settings = file.settings;
    if !(1..=127).contains(&settings.layer_budget) {
        return Err(table("settings", "layer-budget is 1 to 127: runtimes refuse more layers"));
    }
    // 33 bits of seconds fit into a tar header without an extension: until the year 2242.
    if settings.source_date_epoch >= 1 << 33 {
        return Err(table("settings", "source-date-epoch is in seconds and below 8589934592"));
    }
    let bases = file
        .base
        .into_iter()
        .map(|(name, written)| Ok((name.clone(), base(&format!("base.{name}"), written)?)))
        .collect::<Result<_, ConfigError>>()?;
    for (name, environment) in &file.env {
        check_environment(&format!("env.{name}"), environment)?;
    }
    let images = images(file.image)?;
    let config = Config { settings, bases, environments: file.env, images };
    for (name, image) in &config.images {
        check_image(&config, &format!("image.{name}"), name, image)?;
    }
    Ok(config)
}

fn base(name: &str, written: BaseTable) -> Result<Base, ConfigError> {
    let BaseTable { debian, packages, mirror, snapshot, components, keyring, scratch } = written;
    match (debian, scratch) {
        (Some(_), true) => Err(table(name, "`debian` and `scratch` exclude each other")),
        (None, false) => Err(table(name, "say what it is: `debian = \"SUITE\"` or `scratch = true`")),
        (None, true) if !packages.is_empty() => Err(table(name, "`packages` needs `debian = \"SUITE\"`")),
        (None, true) => Ok(Base::Scratch),
        (Some(suite), false) => {
            if packages.is_empty() {
                return Err(table(name, "`packages` is empty: name at least one Debian package"));
            }
            let dated = |mirror: String| match &snapshot {
                Some(date) => mirror.replace("{snapshot}", date),
                None => mirror,
            };
            let mirrors: Vec<String> = mirror.0.into_iter().map(dated).collect();
            if snapshot.is_some() && mirrors.is_empty() {
                return Err(table(name, "`snapshot` needs a `mirror` with `{snapshot}` in it"));
            }
            if mirrors.iter().any(|mirror| mirror.contains("{snapshot}")) {
                return Err(table(name, "`mirror` has `{snapshot}`, but `snapshot` is not set"));
            }
            let components = if components.is_empty() { vec!["main".to_owned()] } else { components };
            Ok(Base::Debian(Debian {
                suite,
                packages,
                mirrors,
                components,
                keyring,
                snapshot: snapshot.is_some(),
            }))
        }
    }
}

fn check_environment(name: &str, environment: &Environment) -> Result<(), ConfigError> {
    if let Some(kind) = &environment.kind
        && LockKind::from_name(kind).is_none()
    {
        return Err(table(name, format!("kind = \"{kind}\" is none of `uv`, `pylock`, `requirements`")));
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

/// Resolves `extends`, each image once, whatever the order in the file.
fn images(mut tables: BTreeMap<String, ImageTable>) -> Result<BTreeMap<String, Image>, ConfigError> {
    let names: Vec<String> = tables.keys().cloned().collect();
    let mut images = BTreeMap::new();
    while !tables.is_empty() {
        let ready = tables
            .iter()
            .find(|(_, image)| image.extends.as_ref().is_none_or(|below| images.contains_key(below)))
            .map(|(name, _)| name.clone());
        let Some((name, image)) = ready.and_then(|name| tables.remove_entry(&name)) else {
            return Err(no_image_is_ready(&tables, &names));
        };
        let below = image.extends.clone().and_then(|below| images.get(&below).cloned());
        let resolved =
            image.over(below.as_ref()).ok_or_else(|| table(&format!("image.{name}"), "`base` is missing"))?;
        images.insert(name, resolved);
    }
    Ok(images)
}

/// Of the images that are left, one extends what does not exist, or they extend each other.
fn no_image_is_ready(tables: &BTreeMap<String, ImageTable>, names: &[String]) -> ConfigError {
    let dangling = tables.iter().find_map(|(name, image)| {
        let below = image.extends.as_ref()?;
        (!names.contains(below)).then_some((name, below))
    });
    match dangling {
        Some((name, below)) => unknown(&format!("image.{name}"), "image", below, names.iter()),
        None => {
            let circle: Vec<_> = tables.keys().map(String::as_str).collect();
            table("image", format!("{} extend each other", circle.join(", ")))
        }
    }
}

fn check_image(config: &Config, name: &str, own: &str, image: &Image) -> Result<(), ConfigError> {
    let repository = |text: &str| {
        text.split('/').all(|part| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
                && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        })
    };
    if !repository(own) {
        return Err(table(name, "an image's name has lower-case letters, digits, `.`, `_`, `-` and `/`"));
    }
    let tag = image.tag.as_deref().unwrap_or("latest");
    let good_tag = tag.len() <= 128
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !tag.starts_with(['.', '-'])
        && !tag.is_empty();
    if !good_tag {
        return Err(table(
            name,
            format!("tag `{tag}` has other characters than letters, digits, `.`, `_` and `-`"),
        ));
    }
    if !config.bases.contains_key(&image.base) {
        return Err(unknown(name, "base", &image.base, config.bases.keys()));
    }
    for environment in &image.environments {
        if !config.environments.contains_key(environment) {
            return Err(unknown(name, "env", environment, config.environments.keys()));
        }
    }
    let mut prefixes: Vec<&str> = image
        .environments
        .iter()
        .filter_map(|environment| config.environments.get(environment))
        .map(|environment| environment.prefix.trim_end_matches('/'))
        .collect();
    prefixes.sort_unstable();
    for pair in prefixes.windows(2) {
        if let [a, b] = pair
            && (a == b || b.starts_with(&format!("{a}/")))
        {
            return Err(table(
                name,
                format!("two environments at {a} and {b}: each needs a prefix of its own"),
            ));
        }
    }
    for file in &image.files {
        if !(absolute(&file.dest) || file.dest == "/" || absolute(file.dest.trim_end_matches('/'))) {
            return Err(table(
                name,
                format!("dest = \"{}\" is no absolute path without `.` or `..`", file.dest),
            ));
        }
    }
    for volume in &image.volumes {
        if !absolute(volume) {
            return Err(table(name, format!("volume `{volume}` is no absolute path")));
        }
    }
    if image.workdir.as_deref().is_some_and(|path| path != "/" && !absolute(path)) {
        return Err(table(name, "workdir is an absolute path"));
    }
    check_users(name, image)
}

fn check_users(name: &str, image: &Image) -> Result<(), ConfigError> {
    for (at, user) in image.users.iter().enumerate() {
        let good = !user.name.is_empty()
            && user.name.len() <= 32
            && user.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
            && !user.name.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if !good {
            return Err(table(
                name,
                format!("user name `{}`: lower-case letters, digits, `_`, `-`", user.name),
            ));
        }
        let text = [user.home.as_deref(), user.shell.as_deref()];
        if text.iter().flatten().any(|path| !absolute(path) || path.contains([':', '\n'])) {
            return Err(table(name, format!("user `{}`: home and shell are absolute paths", user.name)));
        }
        let twice = |other: &super::User| other.name == user.name || other.uid == user.uid;
        if image.users.iter().take(at).any(twice) {
            return Err(table(name, format!("user `{}` or its uid {} is there twice", user.name, user.uid)));
        }
    }
    Ok(())
}

fn absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        !rest.is_empty()
            && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !path.contains('\0')
    })
}

fn table(table: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Table { table: table.to_owned(), problem: problem.into() }
}

fn unknown<'a>(
    table: &str,
    kind: &'static str,
    name: &str,
    known: impl Iterator<Item = &'a String>,
) -> ConfigError {
    let nearest = nearest(name, known.map(String::as_str));
    ConfigError::Unknown { table: table.to_owned(), kind, name: name.to_owned(), nearest }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// The toml crate's error with its line, and the nearest key where one is unknown.
fn syntax(text: &str, error: &toml::de::Error) -> ConfigError {
    let Range { start, .. } = error.span().unwrap_or_default();
    let line = text.bytes().take(start).filter(|&byte| byte == b'\n').count() + 1;
    let problem = error.message().to_owned();
    // serde's words: unknown field `x`, expected one of `a`, `b`
    let mut quoted = problem.split('`').skip(1).step_by(2);
    let nearest = match problem.starts_with("unknown field") {
        true => quoted.next().and_then(|unknown| nearest(unknown, quoted)),
        false => None,
    };
    ConfigError::Syntax { line, problem, nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version = 1\n[base.b]\nscratch = true\n[image.i]\nbase = \"b\"\n";

    fn check(text: &str, expected: &str) {
        let result = parse(text);
        let said = match &result {
            Ok(_) => String::new(),
            Err(error) => {
                format!("{error}{}", error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default())
            }
        };
        assert_eq!(said, expected, "{text}");
    }

    fn check_after(addition: &str, expected: &str) {
        check(&format!("{GOOD}{addition}"), expected);
    }

    #[test]
    fn what_is_written_wrong() {
        check(GOOD, "");
        check(
            "version = 2",
            "version = 2: this imgforge reads version 1 (set `version = 1`, or use an imgforge that reads the file's)",
        );
        check(
            "version = 1\n[image.i]\nbse = 1\n",
            "line 3: unknown field `bse`, expected one of `extends`, `tag`, `base`, `envs`, `files`, `env`, \
             `entrypoint`, `cmd`, `users`, `user`, `workdir`, `labels`, `expose`, `volumes`, `stop-signal` \
             (did you mean `base`?)",
        );
        check(
            "version = 1\n[base.b]\n",
            "[base.b]: say what it is: `debian = \"SUITE\"` or `scratch = true`",
        );
    }

    #[test]
    fn what_is_used_is_defined() {
        check_after("envs = [\"x\"]", "[image.i]: there is no [env.x]");
        check_after("[image.j]\nbase = \"bb\"", "[image.j]: there is no [base.bb] (did you mean `b`?)");
        check_after("[image.j]\nextends = \"k\"", "[image.j]: there is no [image.k]");
        check_after(
            "[image.j]\nextends = \"k\"\n[image.k]\nextends = \"j\"",
            "[image]: j, k extend each other",
        );
    }

    #[test]
    fn what_cannot_be_meant() {
        check_after("workdir = \"x\"", "[image.i]: workdir is an absolute path");
        check_after(
            "tag = \"a b\"",
            "[image.i]: tag `a b` has other characters than letters, digits, `.`, `_` and `-`",
        );
        check_after(
            "[env.a]\nlock = \"uv.lock\"\nprefix = \"venv\"",
            "[env.a]: prefix is an absolute path without `.` or `..`, such as `/opt/venv`",
        );
        check_after(
            "envs = [\"a\", \"c\"]\n[env.a]\nlock = \"uv.lock\"\nprefix = \"/v\"\n[env.c]\nlock = \"uv.lock\"\nprefix = \"/v/w\"",
            "[image.i]: two environments at /v and /v/w: each needs a prefix of its own",
        );
    }

    #[test]
    fn extending_adds() {
        let text = format!(
            "{GOOD}env = {{ A = \"1\", B = \"1\" }}\ncmd = [\"x\"]\n\
             [image.a]\nextends = \"i\"\nenv = {{ B = \"2\" }}\nuser = \"1\"\n"
        );
        let config = parse(&text).unwrap();
        let image = &config.images["a"];
        assert_eq!(image.env.iter().map(|(k, v)| format!("{k}{v}")).collect::<Vec<_>>(), ["A1", "B2"]);
        assert_eq!((image.base.as_str(), &image.cmd[..]), ("b", &["x".to_owned()][..]));
    }
}
