//! What the host can do without: limits for commands of which nothing is known.

use std::fs;
use std::path::Path;

use crate::watch::kilobytes;
use crate::{Limits, Sandbox};

impl Sandbox {
    /// Limits that leave the host usable, whatever is run: [`Limits::default`], with nine tenths of the memory that this
    /// process may have, and of the space that is free now where the store is.
    pub fn limits(&self) -> Limits {
        Limits {
            memory: memory().map(nearly),
            disk: free(self.store.root()).map(nearly),
            ..Limits::default()
        }
    }
}

/// Nine tenths.
const fn nearly(whole: u64) -> u64 {
    whole / 10 * 9
}

/// Bytes of memory: the host's, what it can swap out included, or the container's where that has less.
fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let host = kilobytes(&text, "MemTotal:")? + kilobytes(&text, "SwapTotal:").unwrap_or(0);
    // Of the control group that a container sees as the topmost one. Without a limit it says `max`, or has no such file.
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(host, |group| group.min(host)))
}

/// Bytes that users can still write where a folder is.
fn free(folder: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(folder).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_memory_and_a_disk() {
        let memory = memory().unwrap();
        assert!(memory > 64 << 20 && memory < 1 << 50, "{memory}");
        assert!(free(Path::new("/")).is_some() && free(Path::new("/nowhere")).is_none());
        assert_eq!(nearly(100), 90);
    }
}
