use std::collections::{BTreeMap, BTreeSet};

use oci_spec::image as spec;

use crate::{Error, Platform};

/// How a container of an image is run: the input of [`Image::assemble`](crate::Image::assemble) and of
/// [`Image::assemble_on`](crate::Image::assemble_on).
///
/// Plain data that is checked when it becomes a config, so that a mistake is reported in the words of the
/// specification and not by a runtime on another host. Source: OCI image specification, "Image Configuration".
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// What it runs on.
    pub platform: Platform,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Variables, in the order in which they are set. Those of a base come before them, and stay in their place.
    pub env: Vec<(String, String)>,
    /// The program and its first arguments; empty for none. Nothing: the base's, if there is one.
    pub entrypoint: Option<Vec<String>>,
    /// The further arguments, which a user may replace; empty for none. Nothing: the base's, unless the entrypoint
    /// is given.
    pub cmd: Option<Vec<String>>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// The working folder, absolute.
    pub workdir: Option<String>,
    /// Notes on the image.
    pub labels: BTreeMap<String, String>,
    /// `8080/tcp`, `53/udp`; without a protocol it is TCP.
    pub exposed_ports: BTreeSet<String>,
    /// Folders that a container writes to, absolute.
    pub volumes: BTreeSet<String>,
    /// `SIGTERM`, `SIGRTMIN+3` or a number.
    pub stop_signal: Option<String>,
}

impl ImageConfig {
    /// A config that says nothing but the platform, made at the epoch.
    pub const fn new(platform: Platform) -> Self {
        Self {
            platform,
            created: 0,
            env: Vec::new(),
            entrypoint: None,
            cmd: None,
            user: None,
            workdir: None,
            labels: BTreeMap::new(),
            exposed_ports: BTreeSet::new(),
            volumes: BTreeSet::new(),
            stop_signal: None,
        }
    }

    /// Says whether this can become an image's config, for those who read it long before they have layers.
    ///
    /// # Errors
    /// [`Error::Config`], as [`Image::assemble`](crate::Image::assemble) would.
    pub fn check(&self) -> Result<(), Error> {
        self.to_spec().map(drop)
    }

    /// The execution parameters, checked.
    pub(crate) fn to_spec(&self) -> Result<spec::Config, Error> {
        let mut config = spec::Config::default();
        config.set_env(some_list(self.env_list()?));
        config.set_entrypoint(self.entrypoint.clone().and_then(some_list));
        config.set_cmd(self.cmd.clone().and_then(some_list));
        config.set_user(optional(
            "User",
            self.user.as_deref(),
            is_user,
            "expected `user`, `uid`, `user:group` or `uid:gid`",
        )?);
        config.set_working_dir(optional(
            "WorkingDir",
            self.workdir.as_deref(),
            is_absolute,
            "expected an absolute path without `..`",
        )?);
        config.set_stop_signal(optional(
            "StopSignal",
            self.stop_signal.as_deref(),
            is_signal,
            "expected a name such as SIGTERM or SIGRTMIN+3, or a number",
        )?);
        for volume in &self.volumes {
            optional("Volumes", Some(volume), is_absolute, "expected an absolute path without `..`")?;
        }
        config.set_volumes(some_list(self.volumes.iter().cloned().collect()));
        let ports =
            self.exposed_ports.iter().map(|port| normal_port(port)).collect::<Result<BTreeSet<_>, _>>()?;
        config.set_exposed_ports(some_list(ports.into_iter().collect()));
        if let Some(key) = self.labels.keys().find(|key| key.is_empty()) {
            return Err(invalid("Labels", key, "a label needs a name"));
        }
        if !self.labels.is_empty() {
            config.set_labels(Some(self.labels.clone().into_iter().collect()));
        }
        for word in self.entrypoint.iter().chain(&self.cmd).flatten() {
            optional(
                "Entrypoint or Cmd",
                Some(word),
                |word| !word.contains('\0'),
                "an argument cannot hold a NUL",
            )?;
        }
        Ok(config)
    }

    fn env_list(&self) -> Result<Vec<String>, Error> {
        let mut names = BTreeSet::new();
        self.env
            .iter()
            .map(|(name, value)| {
                let pair = format!("{name}={value}");
                if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                    return Err(invalid(
                        "Env",
                        &pair,
                        "expected NAME=VALUE, without NUL and without `=` in the name",
                    ));
                }
                // Runtimes differ in which of two wins.
                if !names.insert(name) {
                    return Err(invalid("Env", &pair, "this name is set twice; set it once"));
                }
                Ok(pair)
            })
            .collect()
    }
}

/// Seconds since 1970 as RFC 3339 in UTC: `1970-01-01T00:00:00Z`.
///
/// # Errors
/// [`Error::Config`] after the year 9999, which RFC 3339 cannot say.
pub fn timestamp(seconds: u64) -> Result<String, Error> {
    const LAST: u64 = 253_402_300_799;
    if seconds > LAST {
        return Err(invalid(
            "created",
            &seconds.to_string(),
            "expected seconds since 1970, before the year 10000",
        ));
    }
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let is_leap =
        |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    Ok(format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1))
}

fn invalid(field: &'static str, value: &str, expected: &'static str) -> Error {
    Error::Config { field, value: value.to_owned(), expected }
}

/// An absent list and an empty one mean the same to every runtime; only one of them is written.
fn some_list(list: Vec<String>) -> Option<Vec<String>> {
    if list.is_empty() { None } else { Some(list) }
}

fn optional(
    field: &'static str,
    value: Option<&str>,
    is_valid: impl Fn(&str) -> bool,
    expected: &'static str,
) -> Result<Option<String>, Error> {
    match value {
        Some(value) if !is_valid(value) => Err(invalid(field, value, expected)),
        value => Ok(value.map(str::to_owned)),
    }
}

fn is_user(user: &str) -> bool {
    user.split(':').count() <= 2
        && user
            .split(':')
            .all(|part| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c == '\0'))
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

fn is_signal(signal: &str) -> bool {
    if signal.parse::<u8>().is_ok_and(|number| number > 0) {
        return true;
    }
    let Some(name) = signal.strip_prefix("SIG") else { return false };
    let (name, offset) =
        name.split_once(['+', '-']).map_or((name, None), |(name, offset)| (name, Some(offset)));
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        && offset.is_none_or(|offset| offset.parse::<u8>().is_ok())
}

/// One spelling for one port, so that `8080` and `8080/tcp` give one digest.
fn normal_port(port: &str) -> Result<String, Error> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let is_number = number.parse::<u16>().is_ok_and(|value| value > 0 && value.to_string() == number);
    if !is_number || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(invalid(
            "ExposedPorts",
            port,
            "expected a port from 1 to 65535 and a protocol, as in `8080/tcp`",
        ));
    }
    Ok(format!("{number}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut ImageConfig), expected: &str) {
        let mut config = ImageConfig::new("linux/amd64".parse().unwrap());
        change(&mut config);
        let found = match config.to_spec() {
            Ok(config) => String::from_utf8(crate::json::canonical(&config).unwrap()).unwrap(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "expected {expected}\nfound {found}");
    }

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn variables() {
        check(|c| c.env = env(&[("B", "1"), ("A", "x=y")]), r#""Env":["B=1","A=x=y"]"#);
        check(|c| c.env = env(&[("A", "1"), ("A", "1")]), "Env `A=1` is not valid: this name is set twice");
        check(|c| c.env = env(&[("", "1")]), "Env `=1` is not valid");
        check(|c| c.env = env(&[("A=B", "1")]), "Env `A=B=1` is not valid");
    }

    #[test]
    fn ports() {
        check(
            |c| c.exposed_ports = ["8080".into(), "53/udp".into()].into(),
            r#"{"53/udp":{},"8080/tcp":{}}"#,
        );
        for port in ["0", "65536", "080", "http", "80/icmp", "80-90/tcp", "80/", ""] {
            check(|c| c.exposed_ports = [port.to_owned()].into(), "ExposedPorts `");
        }
    }

    #[test]
    fn users_folders_and_signals() {
        for user in ["app", "65532", "65532:65532", "app:app"] {
            check(|c| c.user = Some(user.to_owned()), "\"User\"");
        }
        for user in ["", ":", "a:b:c", "a b"] {
            check(|c| c.user = Some(user.to_owned()), "User `");
        }
        check(|c| c.workdir = Some("/srv".to_owned()), r#""WorkingDir":"/srv""#);
        check(|c| c.workdir = Some("srv".to_owned()), "WorkingDir `srv` is not valid");
        check(|c| c.volumes = ["/a/../b".to_owned()].into(), "Volumes `/a/../b` is not valid");
        for signal in ["SIGTERM", "SIGRTMIN+3", "9", "SIGUSR1"] {
            check(|c| c.stop_signal = Some(signal.to_owned()), "\"StopSignal\"");
        }
        for signal in ["", "TERM", "SIG", "sigterm", "0", "SIGRTMIN+x"] {
            check(|c| c.stop_signal = Some(signal.to_owned()), "StopSignal `");
        }
    }

    #[test]
    fn timestamps() {
        let check = |seconds, expected: &str| assert_eq!(timestamp(seconds).unwrap(), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_704_067_199, "2023-12-31T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
        check(253_402_300_799, "9999-12-31T23:59:59Z");
        assert!(timestamp(253_402_300_800).is_err());
    }
}
