//! Limits that no call of the kernel sets for a whole sandbox: measured again and again.
//!
//! Control groups would hold memory at every moment, but only where root or systemd hands them out, and what the kernel
//! kills in one counts for all groups above: who watches those (systemd's OOMPolicy, a job runner) takes it for a failure
//! of imgforge, and ends that. So there is one way for everybody. What bounds it in between: no process gets much more
//! memory of its own than the limit (RLIMIT_DATA), and when the host has none left, its first choice is somebody in here.
//!
//! Runs in the sandbox's first process, which sees all others and nobody else. Cheap signs come first (resident pages, free
//! blocks), and the exact and slow measure only when they say that a limit may be passed. What passes a limit between two
//! looks is seen at the next one: a sandbox takes more for a moment, but not for long.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, StatVfs};

use crate::Limit;
use crate::message::Bounds;
use crate::union::{entries, join, open_folder, stat_below};

/// How long nobody looks, at least; and how many times longer than the looking.
const PAUSE: Duration = Duration::from_millis(25);
const PATIENCE: u32 = 20;

/// Bytes that a file takes beside its content, about: a disk can be filled with empty ones.
const FILE: u64 = 4096;

pub(crate) struct Watch<'a> {
    bounds: &'a Bounds,
    deadline: Option<Instant>,
    next: Instant,
    shared_at_start: u64,
    disk: Disk<'a>,
}

impl<'a> Watch<'a> {
    /// Begins; `upper` is where files are written to.
    pub(crate) fn new(bounds: &'a Bounds, upper: &'a OwnedFd) -> Self {
        let now = Instant::now();
        Self {
            bounds,
            deadline: bounds.time.map(|time| now + Duration::from_millis(time)),
            next: now + PAUSE,
            shared_at_start: if bounds.memory.is_some() { shared_memory() } else { 0 },
            disk: Disk::new(upper),
        }
    }

    /// How long to wait for something else to happen.
    pub(crate) fn pause(&self) -> Duration {
        let until = self.deadline.map_or(self.next, |deadline| deadline.min(self.next));
        until.saturating_duration_since(Instant::now())
    }

    /// The limit that is passed, if one is.
    pub(crate) fn check(&mut self) -> Option<Limit> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(Limit::Time);
        }
        if now < self.next {
            return None;
        }
        let limit = self.measure();
        self.next = Instant::now() + PAUSE.max(now.elapsed() * PATIENCE);
        limit
    }

    fn measure(&mut self) -> Option<Limit> {
        let processes = processes();
        // The first process is not the command's.
        if processes.iter().map(|process| threads(*process)).sum::<u64>()
            > u64::from(self.bounds.processes) + 1
        {
            return Some(Limit::Processes);
        }
        if self.bounds.memory.is_some_and(|limit| self.takes_more_memory(limit, &processes)) {
            return Some(Limit::Memory);
        }
        let limit = self.bounds.disk?;
        self.disk.takes_more(limit).then_some(Limit::Disk)
    }

    fn takes_more_memory(&self, limit: u64, processes: &[u32]) -> bool {
        let in_files = used("/tmp") + used("/dev/shm");
        let shared = shared_memory().saturating_sub(self.shared_at_start);
        let resident: u64 = processes.iter().map(|process| resident(*process)).sum();
        if resident + in_files <= limit && shared <= limit {
            return false;
        }
        let mapped = processes.iter().filter_map(|process| Mapped::of(*process));
        let (private, shared) = mapped
            .fold((0, 0), |(private, shared), mapped| (private + mapped.private, shared + mapped.shared));
        // Shared memory that is mapped is in a file of one kind or another, but not all in files is mapped.
        private + shared.max(in_files + without_names(processes, true)) > limit
    }
}

/// The space that files in a folder take.
struct Disk<'a> {
    folder: &'a OwnedFd,
    /// When it was last measured.
    free: u64,
    taken: u64,
}

impl<'a> Disk<'a> {
    fn new(folder: &'a OwnedFd) -> Self {
        Self { folder, free: free(folder), taken: 0 }
    }

    fn takes_more(&mut self, limit: u64) -> bool {
        // Others use the disk too, so that its space only hints at what is worth measuring.
        let free = free(self.folder);
        if self.taken + self.free.saturating_sub(free) <= limit {
            return false;
        }
        self.free = free;
        self.taken = size(self.folder) + without_names(&processes(), false);
        self.taken > limit
    }
}

/// Bytes that are free where a folder is, with what a file takes for each that could still be made.
fn free(folder: &OwnedFd) -> u64 {
    rustix::fs::fstatvfs(folder).map_or(0, |StatVfs { f_bfree, f_frsize, f_ffree, .. }| {
        (f_bfree * f_frsize).saturating_add(f_ffree.saturating_mul(FILE))
    })
}

/// Bytes that a folder and all in it take, while others work in it.
fn size(root: &OwnedFd) -> u64 {
    let mut total = 0;
    let mut folders = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        let Ok(names) = open_folder(root, &folder).and_then(|fd| entries(&fd)) else { continue };
        for name in names {
            let path = join(&folder, &name);
            let Ok(Some(stat)) = stat_below(root, &path) else { continue };
            total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512 + FILE;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                folders.push(path);
            }
        }
    }
    total
}

/// Bytes of files without a name that processes have open: of memory (memfd), or of the disk.
fn without_names(processes: &[u32], is_memory: bool) -> u64 {
    let mut known = BTreeSet::new();
    let mut total = 0;
    for process in processes {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(metadata) = fs::metadata(descriptor.path()) else { continue };
            if !metadata.is_file() || metadata.nlink() > 0 || !known.insert((metadata.dev(), metadata.ino()))
            {
                continue;
            }
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let target = target.to_string_lossy();
            let is_counted = match is_memory {
                true => target.starts_with("/memfd:"),
                // Those of a tmpfs are counted there.
                false => !["/memfd:", "/tmp/", "/dev/shm/"].iter().any(|start| target.starts_with(start)),
            };
            total += if is_counted { metadata.blocks() * 512 } else { 0 };
        }
    }
    total
}

/// The processes of the sandbox.
fn processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Threads of a process: the links that its folder of them has, beside those of every folder.
fn threads(process: u32) -> u64 {
    fs::metadata(format!("/proc/{process}/task")).map_or(0, |task| task.nlink().saturating_sub(2))
}

/// Bytes of a process that are in memory, however many have them too.
fn resident(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages: Option<u64> = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// A process's part of the memory that it has, in bytes.
struct Mapped {
    private: u64,
    shared: u64,
}

impl Mapped {
    fn of(process: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let of = |name: &str| kilobytes(&text, name).unwrap_or(0);
        Some(Self { private: of("Pss_Anon:"), shared: of("Pss_Shmem:") })
    }
}

/// Bytes of memory that the whole host has in files.
fn shared_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kilobytes(&text, "Shmem:").unwrap_or(0)
}

/// The bytes of a line like `Shmem:    12 kB`.
pub(crate) fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Bytes that are used of a file system.
fn used(path: &str) -> u64 {
    let status: io::Result<_> = rustix::fs::statvfs(path).map_err(Into::into);
    status.map_or(0, |status| (status.f_blocks - status.f_bfree.min(status.f_blocks)) * status.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc() {
        assert_eq!(kilobytes("MemFree: 1 kB\nShmem:     12 kB\n", "Shmem:"), Some(12 << 10));
        assert_eq!(kilobytes("Shmem: x\n", "Shmem:"), None);
        assert_eq!(kilobytes("", "Shmem:"), None);
    }

    #[test]
    fn the_size_of_a_folder_has_empty_files_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = || OwnedFd::from(fs::File::open(folder.path()).unwrap());
        assert_eq!(size(&open()), 0);
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), "").unwrap();
        fs::write(folder.path().join("c"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("d")).unwrap();
        let size = size(&open());
        assert!((100_000 + 4 * FILE..200_000).contains(&size), "{size}");
    }

    #[test]
    fn this_process_has_threads() {
        let own = std::process::id();
        let before = threads(own);
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || receiver.recv().is_err());
        assert!(before > 0 && threads(own) > before);
        drop(sender);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn this_process_has_memory() {
        let own = std::process::id();
        assert!(processes().contains(&own));
        let mapped = Mapped::of(own).unwrap();
        assert!(mapped.private > 0 && resident(own) > mapped.private);
    }
}
