//! `limits`: where what runs in the sandbox is stopped.
//!
//! They decide whether something is made, and nothing of what it comes to: no key depends on them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Limits of a command in the sandbox: `{ memory = "8 GiB", time = "2 h" }`. `"none"` stands for no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Memory of all its processes together, files in /tmp included: `8 GiB`. Default: nine tenths of the host's memory.
    pub memory: Option<Size>,
    /// What it writes to the disk, what comes out included: `50 GiB`. Default: nine tenths of what is free there when it
    /// starts.
    pub disk: Option<Size>,
    /// How long it takes: `90 s`, `45 min`, `2 h`, `3 d`. Default: a day, and ten minutes for a smoke command.
    pub time: Option<Time>,
    /// Processes and threads. Default: 8192.
    pub processes: Option<u32>,
    /// Each file that it writes: `4 GiB`. Default: none. A program that goes beyond it gets the signal SIGXFSZ.
    pub file_size: Option<Size>,
    /// Files in /tmp, which are in memory: `2 GiB`. Default: `8 GiB`. Where it is full, no space is left.
    pub tmp: Option<Size>,
    /// What it prints: `1 GiB`. Default: `256 MiB`.
    pub log: Option<Size>,
}

impl Limits {
    /// These, and where they say nothing, others.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        Self {
            memory: self.memory.or(below.memory),
            disk: self.disk.or(below.disk),
            time: self.time.or(below.time),
            processes: self.processes.or(below.processes),
            file_size: self.file_size.or(below.file_size),
            tmp: self.tmp.or(below.tmp),
            log: self.log.or(below.log),
        }
    }
}

/// Bytes; `None` for `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Size(pub Option<u64>);

/// A time; `None` for `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Time(pub Option<Duration>);

/// Units of sizes, in bytes. Without an `i` they are decimal, as on a disk's label.
const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Units of times, in seconds.
const TIMES: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3600), ("d", 86400)];

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size, such as `512 MiB`, `8 GiB`, `50 GB` or `none`");
        amount(&text, &SIZES).map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time, such as `90 s`, `45 min`, `2 h`, `3 d` or `none`");
        let seconds = amount(&text, &TIMES).ok_or_else(wrong)?;
        Ok(Self(seconds.map(Duration::from_secs)))
    }
}

/// Reads a whole number with its unit; `Some(None)` for `none`. Nothing is never meant, nor is what no number holds.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<Option<u64>> {
    if text == "none" {
        return Some(None);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, size) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    let amount = number.parse::<u64>().ok()?.checked_mul(*size)?;
    (amount > 0).then_some(Some(amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn size(text: &str, expected: Option<Option<u64>>) {
        assert_eq!(Size::try_from(text.to_owned()).ok().map(|size| size.0), expected, "{text}");
    }

    #[track_caller]
    fn time(text: &str, expected: Option<Option<u64>>) {
        let found = Time::try_from(text.to_owned()).ok().map(|time| time.0.map(|time| time.as_secs()));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn sizes() {
        size("8 GiB", Some(Some(8 << 30)));
        size("512MiB", Some(Some(512 << 20)));
        size("50 GB", Some(Some(50_000_000_000)));
        size("none", Some(None));
        for text in
            ["", "8", "8 G", "GiB", "-1 GiB", "1.5 GiB", "0 GiB", "8 gib", "99999999999 TiB", "8 GiB x"]
        {
            size(text, None);
        }
    }

    #[test]
    fn times() {
        time("90 s", Some(Some(90)));
        time("45min", Some(Some(45 * 60)));
        time("2h", Some(Some(7200)));
        time("3 d", Some(Some(3 * 86400)));
        time("none", Some(None));
        for text in ["", "2", "2 hours", "0 s", "1h30"] {
            time(text, None);
        }
    }

    #[test]
    fn the_nearer_table_counts() {
        let (below, own) = (
            Limits { memory: Some(Size(Some(1))), disk: Some(Size(Some(2))), ..Limits::default() },
            Limits { memory: Some(Size(None)), processes: Some(3), ..Limits::default() },
        );
        let expected = Limits { disk: Some(Size(Some(2))), ..own.clone() };
        assert_eq!(own.over(&below), expected);
    }
}
