//! Limits of what runs in the sandbox: those of images.toml, over those that leave the host usable; and what is said when
//! one is reached.

use std::time::Duration;

use imgforge_sandbox::{Exit, Finished, Limit, Sandbox};
use imgforge_store::Store;

use crate::config;

/// How long a build takes at most, unless images.toml says otherwise: there are some of many hours.
pub(crate) const BUILD: Duration = Duration::from_secs(24 * 3600);

/// How long a smoke command takes at most, likewise.
pub(crate) const SMOKE: Duration = Duration::from_secs(600);

/// What images.toml says, over what the host can do without.
pub(crate) fn of(sandbox: &Sandbox, written: &config::Limits, time: Duration) -> imgforge_sandbox::Limits {
    let host = sandbox.limits();
    let size = |written: Option<config::Size>, default| written.map_or(default, |config::Size(size)| size);
    imgforge_sandbox::Limits {
        memory: size(written.memory, host.memory),
        disk: size(written.disk, host.disk),
        time: written.time.map_or(Some(time), |config::Time(time)| time),
        processes: written.processes.unwrap_or(host.processes),
        file_size: size(written.file_size, host.file_size),
        tmp: size(written.tmp, Some(host.tmp)).unwrap_or(u64::MAX >> 1),
        log: size(written.log, Some(host.log)).unwrap_or(u64::MAX),
        shm: host.shm,
    }
}

/// How a command ended that failed, as it fits behind "the build", and where its log is. `own` is as for [`stopped`].
pub(crate) fn failure(
    store: &Store,
    ended: &Finished,
    limits: &imgforge_sandbox::Limits,
    own: Option<(&str, &str)>,
) -> String {
    let log = match &ended.log {
        Some(log) => format!("its log is {}", store.blob_path(log).display()),
        None => "it printed nothing".to_owned(),
    };
    match (ended.limit, ended.exit) {
        (Some(limit), _) => format!("{}; {log}", stopped(limit, limits, own)),
        (None, Exit::Code(code)) => format!("failed with exit code {code}; {log}"),
        (None, Exit::Signal(signal)) => format!("was ended by signal {signal}; {log}"),
    }
}

/// Which limit was reached, and what raises it: a key of `own`, a key and its table in images.toml, or of `[settings]`.
pub(crate) fn stopped(limit: Limit, limits: &imgforge_sandbox::Limits, own: Option<(&str, &str)>) -> String {
    let size = |size: Option<u64>| size.map(bytes).unwrap_or_default();
    let (key, what, value) = match limit {
        Limit::Memory => ("memory", "memory", size(limits.memory)),
        Limit::Disk => ("disk", "the disk", size(limits.disk)),
        Limit::FileSize => ("file-size", "a file's size", size(limits.file_size)),
        Limit::Log => ("log", "what it may print", bytes(limits.log)),
        Limit::Processes => ("processes", "processes", limits.processes.to_string()),
        Limit::Time => ("time", "time", limits.time.map(duration).unwrap_or_default()),
    };
    let own = own.map(|(limits, table)| format!("`{limits}.{key}` in {table} or ")).unwrap_or_default();
    format!("was stopped at its limit of {what}, {value}; {own}`limits.{key}` in [settings] raises it")
}

/// Bytes in the largest unit that leaves no more than a tenth of it unsaid.
fn bytes(count: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| count >= 1 << shift);
    let Some((name, shift)) = unit else { return format!("{count} bytes") };
    let (whole, tenths) = (count >> shift, ((count & ((1 << shift) - 1)) * 10) >> shift);
    if tenths == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenths} {name}") }
}

fn duration(time: Duration) -> String {
    let units = [("d", 86400), ("h", 3600), ("min", 60)];
    let seconds = time.as_secs();
    let unit = units.into_iter().find(|(_, unit)| seconds >= *unit && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds} s"), |(name, unit)| format!("{} {name}", seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_for_a_reader() {
        for (count, expected) in
            [(8 << 30, "8 GiB"), ((3 << 30) / 2, "1.5 GiB"), (64 << 20, "64 MiB"), (1000, "1000 bytes")]
        {
            assert_eq!(bytes(count), expected);
        }
        for (seconds, expected) in [(7200, "2 h"), (90, "90 s"), (2700, "45 min"), (86400, "1 d")] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_limit_is_told_with_what_raises_it() {
        let limits =
            imgforge_sandbox::Limits { memory: Some(8 << 30), ..imgforge_sandbox::Limits::default() };
        assert_eq!(
            stopped(Limit::Memory, &limits, Some(("limits", "[artifact.a]"))),
            "was stopped at its limit of memory, 8 GiB; `limits.memory` in [artifact.a] or `limits.memory` in [settings] raises it"
        );
    }
}
