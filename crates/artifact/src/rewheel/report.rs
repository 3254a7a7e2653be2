//! What the ELF files of a wheel need of the system, and what they keep of the place they were built in.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::elf::Needs;
use super::platform::{self, Glibc};

/// What was found in a wheel's files. Lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Report {
    /// The platform part of the file name, as the build had it.
    pub platform: String,
    /// Shared libraries and programs for the wheel's processor. Only these count below.
    pub elf_files: u64,
    /// The highest version of glibc that any of them needs.
    pub glibc: Option<Glibc>,
    /// The highest version of symbols of each kind that any of them needs: `GLIBCXX` → `3.4.30`. Whether an image has
    /// these depends on its libstdc++ and its like.
    pub versions: BTreeMap<String, String>,
    /// Libraries that are needed and not in the wheel, each with the files that need it.
    pub libraries: BTreeMap<String, BTreeSet<String>>,
    /// Those of them that not every system has which a manylinux tag stands for: another wheel of the environment has to
    /// bring them, or the image.
    pub beyond_manylinux: BTreeSet<String>,
    /// Absolute folders that libraries are looked for in, each with the files that say so. They are the builder's, and the
    /// image need not have them.
    pub run_paths: BTreeMap<String, BTreeSet<String>>,
    /// Folders of the build whose names stand in files, each with these files. They do no harm but in one way: a build in
    /// another folder gives other bytes.
    pub build_paths: BTreeMap<String, BTreeSet<String>>,
    /// ELF files for other processors, or for one that platform tags have no name for.
    pub other_machines: BTreeSet<String>,
    /// Files that begin like an ELF file and can't be read as one, with the reason.
    pub unreadable: BTreeMap<String, String>,
    /// Whether there was more than a thousand of something, and the rest was left out.
    pub is_cut_off: bool,
}

/// What is kept of any one thing. A wheel that has more of it is made to fill memory.
const MOST: usize = 1_000;

impl Report {
    /// An empty report of a wheel for this platform.
    pub(super) fn new(platform: &str) -> Self {
        Self { platform: platform.to_owned(), ..Self::default() }
    }

    /// Takes what a file needs.
    pub(super) fn add(&mut self, file: &str, needs: Needs) {
        let wheel = platform::architecture(&self.platform);
        // A wheel for any system says nothing of a processor, so that what its ELF files need is of interest as it is.
        if needs.machine.is_none() || (wheel.is_some() && needs.machine != wheel) {
            self.is_cut_off |= !insert(&mut self.other_machines, file);
            return;
        }
        self.elf_files += 1;
        for library in &needs.libraries {
            self.is_cut_off |= !insert_for(&mut self.libraries, library, file);
        }
        for path in needs
            .run_paths
            .iter()
            .filter(|path| !path.starts_with("$ORIGIN") && !path.starts_with("${ORIGIN}"))
        {
            self.is_cut_off |= !insert_for(&mut self.run_paths, path, file);
        }
        for (_, version) in &needs.versions {
            self.glibc = self.glibc.max(platform::glibc(version));
            self.version(version);
        }
    }

    /// Takes that a folder of the build stands in a file.
    pub(super) fn build_path(&mut self, path: &str, file: &str) {
        self.is_cut_off |= !insert_for(&mut self.build_paths, path, file);
    }

    /// Takes that a file can't be read.
    pub(super) fn unreadable(&mut self, file: &str, reason: String) {
        if self.unreadable.len() < MOST {
            self.unreadable.insert(file.to_owned(), reason);
        } else {
            self.is_cut_off = true;
        }
    }

    /// Takes away the libraries that are in the wheel itself, by the names that they can be needed by.
    pub(super) fn finish(&mut self, own: &BTreeSet<String>) {
        self.libraries.retain(|library, _| !own.contains(library));
        self.beyond_manylinux =
            self.libraries.keys().filter(|library| !platform::is_in_manylinux(library)).cloned().collect();
    }

    fn version(&mut self, version: &str) {
        // Kinds are what stands before the number: GLIBC_2.34, CUDA_12.0, libcudart.so.12.
        let numbers =
            |text: &str| -> Option<Vec<u64>> { text.split('.').map(|part| part.parse().ok()).collect() };
        let Some((kind, number)) = version.rsplit_once('_') else { return };
        let Some(new) = numbers(number) else { return };
        match self.versions.get(kind) {
            Some(old) if numbers(old) >= Some(new) => {}
            None if self.versions.len() >= MOST => self.is_cut_off = true,
            _ => {
                self.versions.insert(kind.to_owned(), number.to_owned());
            }
        }
    }
}

/// Inserts unless there are too many; says whether it did.
fn insert(set: &mut BTreeSet<String>, value: &str) -> bool {
    let fits = set.len() < MOST || set.contains(value);
    if fits {
        set.insert(value.to_owned());
    }
    fits
}

fn insert_for(map: &mut BTreeMap<String, BTreeSet<String>>, key: &str, value: &str) -> bool {
    (map.len() < MOST || map.contains_key(key)) && insert(map.entry(key.to_owned()).or_default(), value)
}
