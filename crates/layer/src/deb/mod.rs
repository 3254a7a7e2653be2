//! A Debian package becomes the tree that dpkg would leave of it.
//!
//! Nothing is unpacked under its name: both tars of the package are decompressed once into an unlinked scratch file, and
//! the tree's files are ranges of it. No maintainer script runs. What comes out of a set of packages is two things:
//!
//! - for each package, [`plan`]: its files, and its own files of dpkg's database
//!   (`var/lib/dpkg/info/NAME.{list,md5sums,postinst,…}`). That is a pure function of the package, so it is a layer that
//!   every base shares;
//! - for the base, [`database`]: what dpkg keeps for all packages together, and what the few scripts would have made
//!   without which a base is not usable (users, name resolution, trusted certificates). Beneath both lies the
//!   [`skeleton`].
//!
//! **A status file, not `status.d`.** Distroless images describe each package by a fragment in `var/lib/dpkg/status.d`,
//! which scanners read and dpkg does not. Here it is the real `var/lib/dpkg/status`, sorted, as dpkg writes it: `dpkg -l`,
//! `dpkg --verify` and `apt-get install` work in the image and in images derived from it, and scanners read it too. The
//! price is that it belongs to all packages at once, which is why it stands in the base's small glue layer.
//!
//! **States are true.** A package whose scripts would have run is `unpacked`, not `installed`: `dpkg --configure -a` in a
//! derived image runs what was left out. Packages without such scripts are `installed`. Unlike after `dpkg --unpack`,
//! conffiles are in place and not `.dpkg-new`; dpkg takes that for a configuration that was interrupted behind the
//! point at which they are put there.
//!
//! **Merged `/usr`.** What packages have below `bin`, `sbin` and `lib*` goes below `usr`; the skeleton has the links.
//! File lists keep the packages' own names, as dpkg does on such a system.
//!
//! Sources: `deb(5)`, `dpkg(1)`, Debian policy chapters 3 to 10; judged by dpkg itself (`tests/debian/compare.sh`).

mod ar;
mod certificates;
mod control;
mod database;
mod scratch;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::Source;
use crate::members::{Member, MemberKind, Members, MembersError};
use crate::tree::{Content, Entry, File, Kind, Tree, TreeError, TreePath};

pub use certificates::CertificateError;
pub use control::Control;
pub use database::{DatabaseError, database, skeleton};

/// A package as it will be in an image.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its files, and its own part of dpkg's database.
    pub tree: Tree,
    /// What the base's [`database`] is made from.
    pub control: Control,
}

/// Debian's largest package has 200,000 files.
const MAX_ENTRIES: usize = 2_000_000;
/// What a base is made from is small: users, certificates, a few defaults.
const MAX_SEED: u64 = 1 << 20;

/// Plans the installation of a package.
///
/// `file_name` is for messages; name and version come from the package itself. `folder` is where the scratch file is made,
/// which lives as long as the tree: as many bytes as the package has installed.
///
/// # Errors
/// [`Error`], which names the package and says what is wrong with it.
pub fn plan(source: &Source, file_name: &str, folder: &Path) -> Result<Package, Error> {
    let error = |problem| Error { package: file_name.to_owned(), problem };
    scratch::inflate(source, folder).and_then(|scratch| Reader::new(scratch).read()).map_err(error)
}

/// A package that can't be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{package} can't be installed")]
pub struct Error {
    /// The package's file name.
    pub package: String,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is no well-formed ar archive of the three members of a package.
    #[error("it is no Debian package: {reason}")]
    Ar {
        /// What is wrong.
        reason: String,
    },
    /// A tar in it is not well-formed, or of a kind that is not read.
    #[error("at {offset} bytes of its tars: {reason}")]
    Tar {
        /// Bytes from the start of `control.tar`, both tars decompressed.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A device or another entry that no image gets from a package.
    #[error("{name} is {kind}")]
    Special {
        /// Its name in the archive.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// A tar in it is larger than any real one, or compressed better than any.
    #[error("{name} is larger than {limit} bytes, or compressed more than a thousandfold")]
    TooLarge {
        /// `control.tar` or `data.tar`.
        name: &'static str,
        /// Bytes.
        limit: u64,
    },
    /// More entries than any package has.
    #[error("it has more than {limit} entries")]
    TooMany {
        /// How many it may have.
        limit: usize,
    },
    /// A tar in it does not decompress.
    #[error("{name} does not decompress")]
    Decompress {
        /// `control.tar` or `data.tar`.
        name: &'static str,
        /// The codec's message.
        source: io::Error,
    },
    /// A name in it that no image can have.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An absolute name: a package's names begin with `./`.
    #[error("the name `{name}` is absolute")]
    Absolute {
        /// The name in the archive, escaped.
        name: String,
    },
    /// A link to nothing that a link could lead to.
    #[error("the link {path} leads to `{target}`: {reason}")]
    Link {
        /// The link.
        path: TreePath,
        /// Its target, escaped.
        target: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The control information does not read.
    #[error("its control information does not read: {reason}")]
    Control {
        /// What is wrong.
        reason: String,
    },
    /// The package can't be read.
    #[error("can't be read")]
    Read(#[source] io::Error),
    /// The scratch file can't be made or written.
    #[error("no scratch file in {folder}")]
    Scratch {
        /// The folder.
        folder: String,
        /// The system's message.
        source: io::Error,
    },
}

impl From<MembersError> for Problem {
    fn from(error: MembersError) -> Self {
        match error {
            MembersError::Tar { offset, reason } => Self::Tar { offset, reason },
            MembersError::Special { name, kind } => Self::Special { name, kind },
            MembersError::Read(source) => Self::Read(source),
        }
    }
}

/// A tree with everything below `bin`, `sbin` and `lib*` moved to where the skeleton's links lead.
///
/// A folder entry on the path of such a link would replace the link, and with it the whole root filesystem's programs.
///
/// # Errors
/// [`TreeError`] when the tree has both places of one path, with different content.
pub fn merge_usr(tree: &Tree) -> Result<Tree, TreeError> {
    let mut moved = Tree::new();
    for (path, entry) in tree.iter() {
        moved.insert(TreePath::new(&merged(path.as_str()))?, entry.clone())?;
    }
    Ok(moved)
}

/// Where an absolute path really is in a Debian root filesystem, if one of the skeleton's links is on its way.
pub fn behind_link(path: &str) -> Option<String> {
    let relative = path.strip_prefix('/')?;
    let moved = merged(relative);
    (moved != relative).then(|| format!("/{moved}"))
}

/// The folders that were merged into others, and where their content goes: `/usr` (Debian 12 and later), and what moved
/// to `/run` long before but is still in `base-files`, whose script moves it.
pub(crate) const MERGED: [(&str, &str); 9] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib32", "usr/lib32"),
    ("lib64", "usr/lib64"),
    ("libo32", "usr/libo32"),
    ("libx32", "usr/libx32"),
    ("var/run", "run"),
    ("var/lock", "run/lock"),
];

/// Where a path of a package is in an image.
fn merged(path: &str) -> String {
    let below = |(from, to): &(&str, &str)| match path.strip_prefix(from)? {
        "" => Some((*to).to_owned()),
        rest => rest.starts_with('/').then(|| format!("{to}{rest}")),
    };
    MERGED.iter().find_map(below).unwrap_or_else(|| path.to_owned())
}

/// Whether a link is one of those that merging consists of.
fn is_merge(path: &str, target: &str) -> bool {
    let target = target.trim_start_matches("../").trim_start_matches('/');
    MERGED.contains(&(path, target))
}

/// Reads a package from its scratch file.
struct Reader {
    source: Arc<Source>,
    data: u64,
    /// Every name of `data.tar` in its order, as dpkg lists them: `/.`, `/etc`, `/etc/passwd`.
    list: String,
    /// Regular files by their names in the package, in the archive's order.
    files: Vec<(String, Entry)>,
    /// What is not a hard link, by its path in the image.
    entries: Vec<(TreePath, Entry)>,
    /// The regular files among them.
    regular: BTreeMap<TreePath, Entry>,
    /// Hard links: the files that they lead to, and where they are.
    links: BTreeMap<TreePath, Vec<TreePath>>,
}

impl Reader {
    fn new(scratch: scratch::Scratch) -> Self {
        Self {
            source: scratch.source,
            data: scratch.data,
            list: String::new(),
            files: Vec::new(),
            entries: Vec::new(),
            regular: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }

    fn read(mut self) -> Result<Package, Problem> {
        let mut members = Members::new(&self.source, 0, self.data);
        let mut parts = BTreeMap::new();
        while let Some(member) = members.next()? {
            let name = member.name.trim_start_matches("./").to_owned();
            match member.kind {
                MemberKind::Directory if name.is_empty() => {}
                MemberKind::File if control::is_part(&name) => {
                    if parts.insert(name.clone(), self.entry(&member)).is_some() {
                        return Err(Problem::Control { reason: format!("there are two files `{name}`") });
                    }
                }
                _ => {
                    return Err(Problem::Control { reason: format!("`{}` is no control file", member.name) });
                }
            }
        }

        let source = Arc::clone(&self.source);
        let mut members = Members::new(&source, self.data, source.len());
        let mut count = 0;
        while let Some(member) = members.next()? {
            count += 1;
            if count > MAX_ENTRIES {
                return Err(Problem::TooMany { limit: MAX_ENTRIES });
            }
            self.add(&member)?;
        }
        let (control, info) = control::read(parts, &self.list, &self.files)?;
        let mut tree = self.into_tree()?;
        for (path, entry) in info {
            tree.insert(path, entry)?;
        }
        Ok(Package { tree, control })
    }

    /// Adds an entry of `data.tar`.
    fn add(&mut self, member: &Member) -> Result<(), Problem> {
        let Some(name) = relative(&member.name)? else {
            self.list.push_str("/.\n");
            return Ok(());
        };
        // Checked before it is listed: a name with a line break would be two.
        TreePath::new(&name)?;
        self.list.push('/');
        self.list.push_str(&name);
        self.list.push('\n');
        let path = TreePath::new(&merged(&name))?;
        let entry = self.entry(member);
        let link_error = |target: &str, reason| {
            let target = target.escape_debug().to_string();
            Problem::Link { path: path.clone(), target, reason }
        };
        match &member.kind {
            MemberKind::Hardlink(name) => {
                let target = relative(name)?.ok_or_else(|| link_error(name, "that is the root folder"))?;
                let target = TreePath::new(&merged(&target))?;
                if !self.regular.contains_key(&target) {
                    return Err(link_error(name, "no file of the package has that name before it"));
                }
                self.links.entry(target).or_default().push(path);
                return Ok(());
            }
            // The skeleton has it; since Debian 13, base-files does too.
            MemberKind::Symlink(target) if is_merge(&name, target) => return Ok(()),
            MemberKind::Symlink(target) if target.is_empty() => {
                return Err(link_error(target, "the target is empty"));
            }
            MemberKind::Symlink(target) if target.len() > 4095 => {
                return Err(link_error(target, "the target is longer than 4,095 bytes"));
            }
            MemberKind::File => {
                if self.regular.insert(path.clone(), entry.clone()).is_some() {
                    return Err(TreeError::Occupied { path }.into());
                }
                self.files.push((name, entry.clone()));
            }
            MemberKind::Symlink(_) | MemberKind::Directory => {}
        }
        self.entries.push((path, entry));
        Ok(())
    }

    /// Readers of a layer need a file before the hard links to it, and a layer is in the order of paths. So the first
    /// path of a file becomes the file, and the others lead to it.
    fn into_tree(self) -> Result<Tree, Problem> {
        let mut linked = BTreeMap::new();
        for (file, mut paths) in self.links {
            let Some(entry) = self.regular.get(&file) else { continue };
            paths.push(file);
            paths.sort();
            let mut paths = paths.into_iter();
            let Some(first) = paths.next() else { continue };
            let link = Entry { kind: Kind::Hardlink(first.clone()), ..entry.clone() };
            linked.insert(first, entry.clone());
            for path in paths {
                if linked.insert(path.clone(), link.clone()).is_some() {
                    return Err(TreeError::Occupied { path }.into());
                }
            }
        }
        let mut tree = Tree::new();
        for (path, entry) in self.entries {
            let entry = match linked.remove(&path) {
                Some(linked) if self.regular.contains_key(&path) => linked,
                Some(_) => return Err(TreeError::Occupied { path }.into()),
                None => entry,
            };
            tree.insert(path, entry)?;
        }
        for (path, entry) in linked {
            tree.insert(path, entry)?;
        }
        Ok(tree)
    }

    fn entry(&self, member: &Member) -> Entry {
        let (kind, mode) = match &member.kind {
            MemberKind::Directory => (Kind::Directory, member.mode),
            MemberKind::Symlink(target) => (Kind::Symlink(target.clone()), 0o777),
            MemberKind::File | MemberKind::Hardlink(_) => (
                Kind::File(File {
                    content: Content::Range {
                        source: Arc::clone(&self.source),
                        offset: member.offset,
                        len: member.len,
                        crc32: None,
                    },
                    sha256: None,
                }),
                member.mode,
            ),
        };
        Entry { kind, mode, uid: member.uid, gid: member.gid, xattrs: member.xattrs.clone() }
    }
}

/// A name of `data.tar` without the `./` before it and the slash behind it; nothing for the root folder.
fn relative(name: &str) -> Result<Option<String>, Problem> {
    if name.starts_with('/') {
        return Err(Problem::Absolute { name: name.escape_debug().to_string() });
    }
    let name = name.strip_prefix("./").unwrap_or(name);
    let name = name.strip_suffix('/').unwrap_or(name);
    Ok((!name.is_empty() && name != ".").then(|| name.to_owned()))
}

/// Reads a file of a package into memory.
fn read_whole(entry: &Entry, limit: u64) -> Result<Vec<u8>, Problem> {
    let Some(Content::Range { source, offset, len, .. }) = entry.content() else { return Ok(Vec::new()) };
    if *len > limit {
        return Err(Problem::Control {
            reason: format!("a file of {len} bytes where at most {limit} are read"),
        });
    }
    let mut bytes = vec![0; usize::try_from(*len).unwrap_or_default()];
    source.read_exact_at(&mut bytes, *offset).map_err(Problem::Read)?;
    Ok(bytes)
}
