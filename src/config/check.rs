use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr as _;

use imgforge_oci::{ImageConfig, Platform};

use super::artifact::{artifact, check_artifacts};
use super::environment::environments;
use super::extend::extend;
use super::image::ImageTable;
use super::links::check_links;
use super::matrix::{self, Expanded};
use super::{Base, BaseTable, Config, Debian, File, Image, Values};
use crate::transport::Transport;

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
    /// Nothing to build.
    #[error("[image]: there is no image")]
    NoImage,
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
            Self::NoImage => Some("add a table `[image.NAME]` with the name of a `base`".to_owned()),
            _ => None,
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    let written: File = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    if written.version != 1 {
        return Err(ConfigError::Version { version: written.version });
    }
    let extends = written.base.values().any(|base| base.extends.is_some())
        || written.env.values().any(|environment| environment.extends.is_some());
    if written.matrix.is_none() {
        check_no_conditions(&written)?;
    }
    let (file, mut origins) = match extends || written.matrix.is_some() {
        true => {
            let mut plain = toml::from_str(text).map_err(|error| syntax(text, &error))?;
            extend(&mut plain)?;
            let Expanded { file, origins } = matrix::expand(plain)?;
            let file = file.try_into().map_err(|error: toml::de::Error| {
                // Each key and value was good before values were put in; a syntax error has no place now.
                table("matrix", error.message())
            })?;
            (file, origins)
        }
        false => (written, BTreeMap::new()),
    };
    let settings = file.settings;
    if !(1..=127).contains(&settings.layer_budget) {
        return Err(table("settings", "layer-budget is 1 to 127: runtimes refuse more layers"));
    }
    if !(1..=1 << 20).contains(&settings.layer_cap) {
        return Err(table("settings", "layer-cap is in MiB, from 1 to 1048576"));
    }
    // 33 bits of seconds fit into a tar header without an extension: until the year 2242.
    if settings.source_date_epoch >= 1 << 33 {
        return Err(table("settings", "source-date-epoch is in seconds and below 8589934592"));
    }
    check_platforms(&settings.platforms)?;
    if let Some(cache) = &settings.cache {
        crate::cache::repository(cache).map_err(|problem| table("settings", format!("cache: {problem}")))?;
    }
    let bases = file
        .base
        .into_iter()
        .map(|(name, written)| Ok((name.clone(), base(&format!("base.{name}"), written)?)))
        .collect::<Result<_, ConfigError>>()?;
    let environments = environments(file.env)?;
    let artifacts = file
        .artifact
        .into_iter()
        .map(|(name, written)| Ok((name.clone(), artifact(&format!("artifact.{name}"), written)?)))
        .collect::<Result<_, ConfigError>>()?;
    if file.image.is_empty() {
        return Err(ConfigError::NoImage);
    }
    let mut images = images(file.image)?;
    for (key, image) in &mut images {
        let origin = origins.remove(&format!("image.{key}"));
        (image.name, image.values) = origin.unwrap_or_else(|| (key.clone(), Values::new()));
    }
    check_names(&images)?;
    let config = Config { settings, bases, environments, artifacts, images };
    check_artifacts(&config)?;
    check_links(&config)?;
    for (name, image) in &config.images {
        check_image(&config, &format!("image.{name}"), &image.name, image)?;
    }
    Ok(config)
}

/// `when` means something beside a matrix.
fn check_no_conditions(file: &File) -> Result<(), ConfigError> {
    let bases = file.base.iter().filter(|(_, base)| !base.when.is_empty()).map(|(name, _)| ("base", name));
    let environments = file.env.iter().filter(|(_, env)| !env.when.is_empty()).map(|(name, _)| ("env", name));
    let images =
        file.image.iter().filter(|(_, image)| !image.when.is_empty()).map(|(name, _)| ("image", name));
    let artifacts =
        file.artifact.iter().filter(|(_, it)| !it.when.is_empty()).map(|(name, _)| ("artifact", name));
    match bases.chain(environments).chain(artifacts).chain(images).next() {
        Some((kind, name)) => Err(table(&format!("{kind}.{name}"), "`when` needs a `[matrix]`")),
        None => Ok(()),
    }
}

/// Two images of one name and one tag would overwrite each other in an output.
fn check_names(images: &BTreeMap<String, Image>) -> Result<(), ConfigError> {
    let mut seen: BTreeMap<(&str, &str), &Image> = BTreeMap::new();
    for (key, image) in images {
        let tag = image.tag.as_deref().unwrap_or("latest");
        if let Some(before) = seen.insert((&image.name, tag), image) {
            let differs = image.values.iter().find(|(axis, value)| before.values.get(*axis) != Some(value));
            let axis = differs.map(|(axis, _)| axis.as_str()).unwrap_or_default();
            let problem =
                format!("another image is called {}:{tag} too: put `{{{axis}}}` into its `tag`", image.name);
            return Err(table(&format!("image.{key}"), problem));
        }
    }
    Ok(())
}

fn check_platforms(platforms: &[Platform]) -> Result<(), ConfigError> {
    for (at, platform) in platforms.iter().enumerate() {
        if !["linux/amd64", "linux/arm64"].contains(&platform.to_string().as_str()) {
            let problem = format!("platforms: `{platform}` is neither `linux/amd64` nor `linux/arm64`");
            return Err(table("settings", problem));
        }
        if platforms.iter().take(at).any(|other| other == platform) {
            return Err(table("settings", format!("platforms: `{platform}` is there twice")));
        }
    }
    Ok(())
}

fn base(name: &str, written: BaseTable) -> Result<Base, ConfigError> {
    let BaseTable {
        when: _,
        extends: _,
        debian,
        packages,
        mirror,
        snapshot,
        components,
        keyring,
        configure,
        image,
        scratch,
    } = written;
    if configure && debian.is_none() {
        return Err(table(name, "`configure` needs `debian = \"SUITE\"`"));
    }
    if let Some(image) = image {
        if debian.is_some() || scratch || !packages.is_empty() {
            return Err(table(name, "`image` excludes `debian`, `packages` and `scratch`"));
        }
        let transport = Transport::from_str(&image);
        return transport.map(Base::Image).map_err(|error| table(name, format!("image: {error}")));
    }
    match (debian, scratch) {
        (Some(_), true) => Err(table(name, "`debian` and `scratch` exclude each other")),
        (None, false) => Err(table(
            name,
            "say what it is: `debian = \"SUITE\"`, `image = \"docker://HOST/NAME:TAG\"` or `scratch = true`",
        )),
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
                configure,
            }))
        }
    }
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
    for (at, environment) in image.environments.iter().enumerate() {
        let Some(given) = config.environments.get(environment) else {
            return Err(unknown(name, "env", environment, config.environments.keys()));
        };
        if let Some(into) = &given.into
            && !image.environments.iter().take(at).any(|before| before == into)
        {
            let problem =
                format!("[env.{environment}] goes into [env.{into}]: `envs` must have `{into}` before it");
            return Err(table(name, problem));
        }
    }
    check_prefixes(config, name, image)?;
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
    check_users(name, image)?;
    check_execution(name, image)?;
    check_user_is_there(config, name, image)
}

/// Compares all pairs: sorted as text, `/v-2` stands between `/v` and `/v/w`.
fn check_prefixes(config: &Config, name: &str, image: &Image) -> Result<(), ConfigError> {
    let mut prefixes: Vec<Vec<&str>> = image
        .environments
        .iter()
        .filter_map(|environment| config.environments.get(environment))
        .filter(|environment| environment.into.is_none())
        .map(|environment| environment.prefix.split('/').collect())
        .collect();
    prefixes.sort_unstable();
    for (at, b) in prefixes.iter().enumerate() {
        if let Some(a) = prefixes.iter().take(at).find(|a| b.starts_with(a)) {
            let (a, b) = (a.join("/"), b.join("/"));
            return Err(table(
                name,
                format!("two environments at {a} and {b}: each needs a prefix of its own"),
            ));
        }
    }
    Ok(())
}

/// What an image config can't hold is known without layers, so it is said before any is made.
fn check_execution(name: &str, image: &Image) -> Result<(), ConfigError> {
    let config = ImageConfig {
        env: image.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        entrypoint: image.entrypoint.clone(),
        cmd: image.cmd.clone(),
        user: image.user.clone(),
        workdir: image.workdir.clone(),
        labels: image.labels.clone(),
        exposed_ports: image.expose.iter().cloned().collect(),
        volumes: image.volumes.iter().cloned().collect(),
        stop_signal: image.stop_signal.clone(),
        // The grammar is the same on all of them.
        ..ImageConfig::new(Platform::host())
    };
    config.check().map_err(|error| match error {
        imgforge_oci::Error::Config { field, value, expected } => {
            let key = match field {
                "Env" => "env",
                "User" => "user",
                "WorkingDir" => "workdir",
                "StopSignal" => "stop-signal",
                "Volumes" => "volumes",
                "ExposedPorts" => "expose",
                "Labels" => "labels",
                "Entrypoint or Cmd" => "entrypoint or cmd",
                other => other,
            };
            table(name, format!("{key} has `{}`: {expected}", value.escape_default()))
        }
        other => table(name, other.to_string()),
    })
}

/// A base of packages may have any user, an empty one has those that the table or its files bring.
fn check_user_is_there(config: &Config, name: &str, image: &Image) -> Result<(), ConfigError> {
    let own_files =
        image.files.iter().any(|file| ["", "/etc", "/etc/passwd"].contains(&file.dest.trim_end_matches('/')));
    if own_files || config.bases.get(&image.base) != Some(&Base::Scratch) {
        return Ok(());
    }
    let missing = image
        .user
        .iter()
        .flat_map(|user| user.split(':'))
        .find(|part| part.parse::<u32>().is_err() && !image.users.iter().any(|user| user.name == *part));
    match missing {
        Some(missing) => Err(table(
            name,
            format!(
                "user: `{missing}` is not in `users`, and [base.{}] is empty: add it, or write a number",
                image.base
            ),
        )),
        None => Ok(()),
    }
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

pub(super) fn absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        !rest.is_empty()
            && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !path.contains('\0')
    })
}

pub(super) fn table(table: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Table { table: table.to_owned(), problem: problem.into() }
}

pub(super) fn unknown<'a>(
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
pub(super) mod tests {
    use super::*;

    pub(in crate::config) const GOOD: &str =
        "version = 1\n[base.b]\nscratch = true\n[image.i]\nbase = \"b\"\n";

    pub(in crate::config) fn check(text: &str, expected: &str) {
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
            "line 3: unknown field `bse`, expected one of `extends`, `tag`, `base`, `envs`, `artifacts`, `files`, `links`, `env`, \
             `entrypoint`, `cmd`, `users`, `user`, `workdir`, `labels`, `expose`, `volumes`, `stop-signal`, \
             `smoke`, `smoke-network`, `strip`, `smoke-limits`, `when` \
             (did you mean `base`?)",
        );
        check(
            "version = 1\n[base.b]\n",
            "[base.b]: say what it is: `debian = \"SUITE\"`, `image = \"docker://HOST/NAME:TAG\"` or `scratch = true`",
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
    fn prefixes_are_apart() {
        let three = |a: &str, b: &str, c: &str| {
            let table = |name: &str, prefix: &str| {
                format!("[env.{name}]\nlock = \"uv.lock\"\nprefix = \"{prefix}\"\n")
            };
            format!("envs = [\"a\", \"b\", \"c\"]\n{}{}{}", table("a", a), table("b", b), table("c", c))
        };
        check_after(&three("/v", "/v-2", "/vw"), "");
        check_after(
            &three("/v/w", "/v-2", "/v"),
            "[image.i]: two environments at /v and /v/w: each needs a prefix of its own",
        );
        check_after(
            &three("/v", "/w", "/v"),
            "[image.i]: two environments at /v and /v: each needs a prefix of its own",
        );
    }

    #[test]
    fn what_requirements_do_not_have() {
        let env = |key: &str| format!("[env.r]\nlock = \"requirements.txt\"\nprefix = \"/v\"\n{key}");
        let said = |key: &str| {
            format!(
                "[env.r]: `{key}` means nothing with a requirements.txt, which is installed as a whole: \
                 choose when it is written"
            )
        };
        check_after(&env(""), "");
        check_after(&env("extras = [\"x\"]"), &said("extras"));
        check_after(&env("groups = [\"x\"]"), &said("groups"));
        check_after(&env("package = \"x\""), &said("package"));
        check_after(&env("default-groups = true"), &said("default-groups"));
        check_after(&env("kind = \"uv\"\nextras = [\"x\"]"), "");
    }

    #[test]
    fn what_an_image_config_cannot_hold() {
        check_after("expose = [\"8080\", \"53/udp\", \"9/sctp\"]", "");
        let port = "expected a port from 1 to 65535 and a protocol, as in `8080/tcp`";
        check_after("expose = [\"http\"]", &format!("[image.i]: expose has `http`: {port}"));
        check_after("expose = [\"80/icmp\"]", &format!("[image.i]: expose has `80/icmp`: {port}"));
        check_after(
            "env = { \"A=B\" = \"1\" }",
            "[image.i]: env has `A=B=1`: expected NAME=VALUE, without NUL and without `=` in the name",
        );
        check_after(
            "stop-signal = \"TERM\"",
            "[image.i]: stop-signal has `TERM`: expected a name such as SIGTERM or SIGRTMIN+3, or a number",
        );
        check_after("labels = { \"\" = \"x\" }", "[image.i]: labels has ``: a label needs a name");
        check_after(
            "user = \"a b\"",
            "[image.i]: user has `a b`: expected `user`, `uid`, `user:group` or `uid:gid`",
        );
        check_after(
            "cmd = [\"a\\u0000\"]",
            "[image.i]: entrypoint or cmd has `a\\u{0}`: an argument cannot hold a NUL",
        );
    }

    #[test]
    fn users_of_an_empty_base() {
        let missing = |user: &str| {
            format!(
                "[image.i]: user: `{user}` is not in `users`, and [base.b] is empty: add it, or write a number"
            )
        };
        check_after("user = \"app\"", &missing("app"));
        check_after("user = \"7:app\"", &missing("app"));
        check_after("user = \"7:7\"", "");
        check_after("user = \"app\"\nusers = [{ name = \"app\", uid = 7 }]", "");
        check_after("user = \"app\"\nfiles = [{ src = \"e\", dest = \"/etc/\" }]", "");
    }

    #[test]
    fn what_is_built() {
        check(
            "version = 1",
            "[image]: there is no image (add a table `[image.NAME]` with the name of a `base`)",
        );
        let platforms =
            |list: &str| GOOD.replace("[base.b]", &format!("[settings]\nplatforms = {list}\n[base.b]"));
        check(&platforms("[\"linux/amd64\", \"linux/arm64\"]"), "");
        check(
            &platforms("[\"linux/arm64\", \"linux/amd64\", \"linux/arm64\"]"),
            "[settings]: platforms: `linux/arm64` is there twice",
        );
        check(
            &platforms("[\"linux/riscv64\"]"),
            "[settings]: platforms: `linux/riscv64` is neither `linux/amd64` nor `linux/arm64`",
        );
    }

    #[test]
    fn conditions_need_a_matrix() {
        check_after("when = { python = \"3.11\" }", "[image.i]: `when` needs a `[matrix]`");
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
        assert_eq!((image.base.as_str(), image.cmd.as_deref()), ("b", Some(&["x".to_owned()][..])));
    }
}
