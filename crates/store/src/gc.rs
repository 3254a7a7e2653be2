//! Garbage collection.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use imgforge_oci::Digest;

use crate::error::{At as _, StoreError};
use crate::record::{Needs, record_needs};
use crate::{Store, lock};

/// What is to stay. Without an age and a size, only remains are removed.
#[derive(Clone, Debug, Default)]
pub struct GcPolicy {
    /// Removes what was not used for longer than this.
    pub max_age: Option<Duration>,
    /// Then removes what was used least recently, until the blobs, and what records beside them stand for, take no more
    /// than this many bytes.
    pub max_size: Option<u64>,
    /// Blobs that stay in any case. They count towards the size.
    pub keep: HashSet<Digest>,
    /// Records, as `bucket/key`, that stay in any case with their blobs.
    pub keep_records: HashSet<String>,
}

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// The blobs removed, least recently used first.
    pub removed: Vec<Digest>,
    /// Their bytes.
    pub bytes: u64,
    /// Records removed: those whose blobs are gone, and those of the same age without any.
    pub records: usize,
    /// Bytes of what the removed records stood for beside blobs: unpacked layers.
    pub record_bytes: u64,
    /// Unfinished work of processes that are no more, and damaged blobs, in files.
    pub remains: usize,
    /// Bytes of those.
    pub remains_bytes: u64,
    /// The blobs that stay.
    pub kept: usize,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Bytes of what the records that stay stand for beside blobs.
    pub kept_record_bytes: u64,
}

/// One blob.
struct Blob {
    digest: Digest,
    size: u64,
}

/// A blob, or a record that stands for something that is none; and when it was last used.
struct Candidate {
    used: SystemTime,
    item: Item,
    size: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Blob(Digest),
    /// Its place among all records.
    Record(usize),
}

/// A record's file.
struct Recorded {
    name: String,
    path: PathBuf,
    /// None when it is damaged.
    needs: Option<Needs>,
    used: SystemTime,
}

impl Recorded {
    /// Bytes of what it stands for beside blobs.
    fn size(&self) -> u64 {
        self.needs.as_ref().map_or(0, |needs| needs.size)
    }
}

/// What is to go.
#[derive(Default)]
struct Selection {
    blobs: Vec<Blob>,
    records: Vec<PathBuf>,
    record_bytes: u64,
    kept: BTreeMap<Digest, u64>,
    kept_record_bytes: u64,
}

impl Store {
    /// Removes what the policy lets go. `now` is the time that ages are reckoned from.
    ///
    /// Never removes what a running build needs, for these reasons. A build holds a [`Lease`](crate::Lease), and the
    /// collector keeps all that was used since the oldest lease began. Whatever the build needs it has looked up or
    /// committed since then, which dates the use, or it will, and then makes it anew if it is not there. A lookup
    /// cannot fall between the collector's reading of the date and the removal: both sides do theirs under the gate,
    /// which lets the collector in alone. A lease cannot be overlooked: one that appears while the collector has the gate is
    /// followed only by lookups that come after it. (If the clock is set back during a build, a blob may go too early;
    /// the build then stops with [`StoreError::Missing`], and never with other bytes.)
    ///
    /// The gate is held while files are looked at and renamed into `tmp/`; the slow part, freeing their blocks, comes
    /// after. Killed at any point, it leaves records without blobs, which count as absent, and remains in `tmp/`.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn gc(&self, policy: &GcPolicy, now: SystemTime) -> Result<GcReport, StoreError> {
        let gate = self.gate_exclusive()?;
        let (lease, dead_leases) = self.live_leases()?;
        let selection = self.select(policy, now, lease)?;
        let mut trash = Vec::new();
        for blob in &selection.blobs {
            let (path, aside) = (self.blob_path(&blob.digest), self.tmp().join(self.unique_name("trash")));
            fs::rename(&path, &aside).at(&path)?;
            remove(&self.stamp_path(&blob.digest))?;
            trash.push(aside);
        }
        for path in selection.records.iter().chain(&dead_leases) {
            remove(path)?;
        }
        self.remove_orphan_stamps()?;
        drop(gate);
        for path in &trash {
            remove(path)?;
        }
        let remains = self.remains(policy, now)?;
        for (path, _) in &remains {
            remove_if_free(path)?;
        }
        self.remove_free_work_locks()?;
        Ok(selection.report(&remains))
    }

    /// What [`gc`](Self::gc) would remove now.
    ///
    /// # Errors
    /// As for any reading of the store.
    pub fn plan_gc(&self, policy: &GcPolicy, now: SystemTime) -> Result<GcReport, StoreError> {
        let _gate = self.gate_shared()?;
        let (lease, _) = self.live_leases()?;
        let selection = self.select(policy, now, lease)?;
        Ok(selection.report(&self.remains(policy, now)?))
    }

    /// The blobs in the store with their sizes in bytes, by digest. Nothing is checked, and nothing counts as a use.
    ///
    /// # Errors
    /// As for any reading of the store.
    pub fn blobs(&self) -> Result<BTreeMap<Digest, u64>, StoreError> {
        let folder = self.blob_folder();
        let mut blobs = BTreeMap::new();
        for entry in fs::read_dir(&folder).at(&folder)? {
            let entry = entry.at(&folder)?;
            // Other names are not the store's, and are left alone.
            let Some(digest) = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok()) else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) => _ = blobs.insert(digest, metadata.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io(&entry.path(), error)),
            }
        }
        Ok(blobs)
    }

    fn select(
        &self,
        policy: &GcPolicy,
        now: SystemTime,
        lease: Option<SystemTime>,
    ) -> Result<Selection, StoreError> {
        let mut records = Vec::new();
        let mut keep = policy.keep.clone();
        for (name, path) in self.record_files()? {
            let Some(used) = modified(&path)? else { continue };
            let needs = record_needs(&path);
            if let Some(needs) = &needs
                && policy.keep_records.contains(&name)
            {
                keep.extend(&needs.blobs);
            }
            records.push(Recorded { name, path, needs, used });
        }
        let kept = self.blobs()?;
        let total_of_records: u64 = records.iter().map(Recorded::size).sum();
        let mut total = kept.values().sum::<u64>() + total_of_records;
        let mut selection = Selection { kept, ..Selection::default() };
        let is_leased = |used: SystemTime| lease.is_some_and(|began| used >= began);
        let is_wanted =
            |record: &Recorded| policy.keep_records.contains(&record.name) || is_leased(record.used);
        let mut candidates = Vec::new();
        for (digest, size) in &selection.kept {
            let used = self.last_use(digest)?;
            if !keep.contains(digest) && !is_leased(used) {
                candidates.push(Candidate { used, item: Item::Blob(*digest), size: *size });
            }
        }
        let sized = records.iter().enumerate().filter(|(_, record)| record.size() > 0 && !is_wanted(record));
        candidates.extend(sized.map(|(number, record)| Candidate {
            used: record.used,
            item: Item::Record(number),
            size: record.size(),
        }));
        candidates.sort_by(|a, b| (a.used, &a.item).cmp(&(b.used, &b.item)));
        let mut dropped = HashSet::new();
        for Candidate { used, item, size } in candidates {
            let is_large = policy.max_size.is_some_and(|max| total > max);
            if is_large || is_old(policy, now, used) {
                total -= size;
                match item {
                    Item::Blob(digest) => {
                        selection.kept.remove(&digest);
                        selection.blobs.push(Blob { digest, size });
                    }
                    Item::Record(number) => _ = dropped.insert(number),
                }
            }
        }
        for (number, record) in records.into_iter().enumerate() {
            let blobs = record.needs.as_ref().map(|needs| &needs.blobs);
            let is_whole =
                blobs.is_some_and(|blobs| blobs.iter().all(|blob| selection.kept.contains_key(blob)));
            let is_idle = blobs.is_some_and(Vec::is_empty) && is_old(policy, now, record.used);
            if !is_whole || (is_idle && !is_wanted(&record)) || dropped.contains(&number) {
                selection.record_bytes += record.size();
                selection.records.push(record.path);
            } else {
                selection.kept_record_bytes += record.size();
            }
        }
        Ok(selection)
    }

    /// When a blob was last used: its stamp's date. One without a stamp was committed by a process that died at that
    /// moment; its inode knows when.
    fn last_use(&self, digest: &Digest) -> Result<SystemTime, StoreError> {
        if let Some(used) = modified(&self.stamp_path(digest))? {
            return Ok(used);
        }
        let path = self.blob_path(digest);
        let metadata = fs::symlink_metadata(&path).at(&path)?;
        let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
        let nanoseconds = u64::try_from(metadata.ctime_nsec()).unwrap_or(0);
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
    }

    fn remove_orphan_stamps(&self) -> Result<(), StoreError> {
        let folder = self.root().join("stamps");
        for entry in fs::read_dir(&folder).at(&folder)? {
            let entry = entry.at(&folder)?;
            let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
            if digest.is_some_and(|digest| !self.blob_path(&digest).exists()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Files in `tmp/` that nobody has open, with their sizes. Interrupted downloads stay until they are old.
    fn remains(&self, policy: &GcPolicy, now: SystemTime) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let folder = self.tmp();
        let mut remains = Vec::new();
        for entry in fs::read_dir(&folder).at(&folder)? {
            let path = entry.at(&folder)?.path();
            let Some(file) = lock::open_existing(&path)? else { continue };
            let metadata = file.metadata().at(&path)?;
            if !metadata.is_file() || !lock::is_free(&file, &path)? {
                continue;
            }
            let is_part = path.extension().is_some_and(|extension| extension == "part");
            let is_had = || {
                let digest = path.file_stem().and_then(|stem| Digest::from_hex(stem.to_str()?).ok());
                digest.is_some_and(|digest| self.blob_path(&digest).exists())
            };
            if !is_part || is_had() || is_old(policy, now, metadata.modified().at(&path)?) {
                remains.push((path, metadata.len()));
            }
        }
        Ok(remains)
    }

    /// Work locks are removed by their holders; these are of processes that were killed.
    fn remove_free_work_locks(&self) -> Result<(), StoreError> {
        let folder = self.root().join("locks");
        for entry in fs::read_dir(&folder).at(&folder)? {
            let entry = entry.at(&folder)?;
            if entry.file_name().to_string_lossy().starts_with("work-") {
                remove_if_free(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl Selection {
    fn report(self, remains: &[(PathBuf, u64)]) -> GcReport {
        GcReport {
            bytes: self.blobs.iter().map(|blob| blob.size).sum(),
            removed: self.blobs.iter().map(|blob| blob.digest).collect(),
            records: self.records.len(),
            record_bytes: self.record_bytes,
            remains: remains.len(),
            remains_bytes: remains.iter().map(|(_, size)| size).sum(),
            kept: self.kept.len(),
            kept_bytes: self.kept.values().sum(),
            kept_record_bytes: self.kept_record_bytes,
        }
    }
}

/// Whether the policy's age is passed. What was used in the future, by a clock set back since, is new.
fn is_old(policy: &GcPolicy, now: SystemTime, used: SystemTime) -> bool {
    policy.max_age.is_some_and(|max| now.duration_since(used).is_ok_and(|age| age > max))
}

fn modified(path: &Path) -> Result<Option<SystemTime>, StoreError> {
    match fs::symlink_metadata(path).and_then(|metadata| metadata.modified()) {
        Ok(time) => Ok(Some(time)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io(path, error)),
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, error)),
        _ => Ok(()),
    }
}

/// Removes a lock or temporary file under its own lock, so that nobody gets it in between.
fn remove_if_free(path: &Path) -> Result<(), StoreError> {
    match lock::open_existing(path)? {
        Some(file) if lock::is_free(&file, path)? => remove(path),
        _ => Ok(()),
    }
}
