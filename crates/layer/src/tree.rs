//! What a layer will hold, before a byte of it is written.
//!
//! A [`Tree`] maps destination paths to entries. It is data: link targets are not followed, contents are references
//! into archives that are read when the layer is written, and nothing of it exists on the host's file system. Names are
//! checked once, here, where they enter.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use imgforge_oci::Digest;

use crate::{Source, Spliced};

/// Paths below the root of an image, each with one entry; iterated in the order of the tar stream.
///
/// The order is that of the paths' bytes, so a folder comes before what is in it.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<TreePath, Entry>,
}

impl Tree {
    /// A tree with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, and the folders above it where they are not there yet.
    ///
    /// A folder that is added twice keeps the later mode and owner; that is how a package's own folder entry replaces
    /// one that was only implied.
    ///
    /// # Errors
    /// [`TreeError::Occupied`] when another kind of entry, or other content, has the path; [`TreeError::NotAFolder`]
    /// when something that is no folder lies above it.
    pub fn insert(&mut self, path: TreePath, entry: Entry) -> Result<(), TreeError> {
        self.make_parents(&path)?;
        match self.entries.get(&path) {
            Some(present) if !present.same_content(&entry) => Err(TreeError::Occupied { path }),
            _ => {
                self.entries.insert(path, entry);
                Ok(())
            }
        }
    }

    /// Takes all entries of `other`; where both have a path with different content, `other`'s stands.
    ///
    /// Returns the paths on which the two differed, in order.
    ///
    /// # Errors
    /// [`TreeError::FolderAndFile`] when a path is a folder in one and not in the other: no order of installation
    /// gives a sensible result then.
    pub fn merge(&mut self, other: Self) -> Result<Vec<TreePath>, TreeError> {
        let mut differing = Vec::new();
        for (path, entry) in other.entries {
            self.make_parents(&path)?;
            if let Some(present) = self.entries.get(&path) {
                if present.is_directory() != entry.is_directory() {
                    return Err(TreeError::FolderAndFile { path });
                }
                if !present.same_content(&entry) {
                    differing.push(path.clone());
                    self.keep_links(&path);
                }
                // A folder that was only implied must not take the mode away from one that a package has.
                if entry.is_directory() && entry == Entry::implied(&path) {
                    continue;
                }
            }
            self.entries.insert(path, entry);
        }
        Ok(differing)
    }

    /// The entry at a path.
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// All entries, in the order of the tar stream.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Entry)> {
        self.entries.iter()
    }

    /// All entries as the tar stream has them: the first path of a file with several has the content, the others are
    /// links to it, as an extractor can only link to what it has written.
    pub(crate) fn stream(&self) -> Result<impl Iterator<Item = (&TreePath, Cow<'_, Entry>)>, TreeError> {
        // By the path that has the content in this tree: the first path of the same file.
        let mut first: BTreeMap<&TreePath, &TreePath> = BTreeMap::new();
        for (path, entry) in &self.entries {
            let Kind::Hardlink(target) = &entry.kind else { continue };
            if !self.entries.get(target).is_some_and(|entry| matches!(entry.kind, Kind::File(_))) {
                return Err(TreeError::Link { path: path.clone(), target: target.clone() });
            }
            if !first.contains_key(target) {
                first.insert(target, path.min(target));
            }
        }
        Ok(self.entries.iter().map(move |(path, entry)| {
            let file = match &entry.kind {
                Kind::Hardlink(target) => target,
                _ => path,
            };
            let entry = match (first.get(file), self.entries.get(file)) {
                (Some(&first), Some(entry)) if first == path => Cow::Borrowed(entry),
                (Some(&first), Some(entry)) => Cow::Owned(Entry {
                    kind: Kind::Hardlink(first.clone()),
                    xattrs: BTreeMap::new(),
                    ..*entry
                }),
                _ => Cow::Borrowed(entry),
            };
            (path, entry)
        }))
    }

    /// Entries, folders included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all files' contents, uncompressed.
    pub fn content_len(&self) -> u64 {
        self.entries.values().map(|entry| entry.content().map_or(0, Content::len)).sum()
    }

    /// Makes the first hard link to a file that is about to be replaced the file, and leads the others to it: what they
    /// are links to is the content, not the path.
    fn keep_links(&mut self, path: &TreePath) {
        let Some(entry) = self.entries.get(path).filter(|entry| entry.content().is_some()) else { return };
        let entry = entry.clone();
        let is_link = |entry: &Entry| matches!(&entry.kind, Kind::Hardlink(target) if target == path);
        let links = self.entries.iter().filter(|(_, entry)| is_link(entry));
        let mut links = links.map(|(path, _)| path.clone()).collect::<Vec<_>>().into_iter();
        let Some(first) = links.next() else { return };
        for link in links {
            let kind = Kind::Hardlink(first.clone());
            self.entries.insert(link, Entry { kind, ..entry.clone() });
        }
        self.entries.insert(first, entry);
    }

    fn make_parents(&mut self, path: &TreePath) -> Result<(), TreeError> {
        // From the nearest upwards: one that is there has its own parents already.
        for parent in path.ancestors() {
            match self.entries.get(&parent) {
                Some(entry) if entry.is_directory() => break,
                Some(_) => return Err(TreeError::NotAFolder { path: path.clone(), parent }),
                None => {
                    let entry = Entry::implied(&parent);
                    self.entries.insert(parent, entry);
                }
            }
        }
        Ok(())
    }
}

/// A path below the root of an image: `/`-separated, without a leading slash, never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(String);

impl TreePath {
    /// Checks a path; a leading slash is taken off, as all paths are below the image's root.
    ///
    /// # Errors
    /// [`TreeError::Name`] for an empty path, an empty component, `.` or `..`, a NUL or another control character, for a
    /// path longer than 4,095 bytes or with a component longer than 255, which no Linux file system can hold, and for a
    /// component that begins with `.wh.`: in a layer, that is no file but removes one.
    pub fn new(path: &str) -> Result<Self, TreeError> {
        let error = |problem| TreeError::Name { path: path.escape_debug().to_string(), problem };
        let relative = path.strip_prefix('/').unwrap_or(path);
        if relative.is_empty() {
            return Err(error("is empty"));
        }
        if relative.len() > 4095 {
            return Err(error("is longer than 4,095 bytes"));
        }
        if relative.chars().any(char::is_control) {
            return Err(error("has a control character"));
        }
        for component in relative.split('/') {
            match component {
                "" => return Err(error("has an empty component")),
                "." | ".." => return Err(error("has a component `.` or `..`")),
                _ if component.len() > 255 => return Err(error("has a component longer than 255 bytes")),
                // OCI image specification, "Whiteouts".
                _ if component.starts_with(".wh.") => {
                    return Err(error(
                        "has a component that begins with `.wh.`, which removes files of other layers",
                    ));
                }
                _ => {}
            }
        }
        Ok(Self(relative.to_owned()))
    }

    /// The path of the empty file which says, in a layer, that layers below have nothing at this one. Source: OCI image
    /// specification, "Whiteouts".
    ///
    /// # Errors
    /// [`TreeError::Name`] when that name would be longer than 255 bytes.
    pub fn whiteout(&self) -> Result<Self, TreeError> {
        let (folder, name) = self.0.split_at(self.0.rfind('/').map_or(0, |slash| slash + 1));
        if name.len() > 255 - ".wh.".len() {
            return Err(TreeError::Name {
                path: self.0.clone(),
                problem: "is too long to be removed by a layer",
            });
        }
        Ok(Self(format!("{folder}.wh.{name}")))
    }

    /// This path with `relative` below it.
    ///
    /// # Errors
    /// As for [`TreePath::new`].
    pub fn join(&self, relative: &str) -> Result<Self, TreeError> {
        Self::new(&format!("{}/{relative}", self.0))
    }

    /// The text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders above, the nearest first; the root is not among them.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        self.0
            .rmatch_indices('/')
            .filter_map(|(at, _)| self.0.get(..at))
            .map(|parent| Self(parent.to_owned()))
    }
}

impl std::fmt::Display for TreePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", self.0)
    }
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky: `0o7777` at most. Of a symlink always `0o777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes that the artifact itself has, such as `security.capability`.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file.
    File(File),
    /// A symbolic link; the target is any text without NUL and is not followed.
    Symlink(String),
    /// A hard link to a file of the same tree; mode, owner and attributes are the file's.
    Hardlink(TreePath),
}

/// A regular file: where its bytes are and what they must hash to.
#[derive(Clone, Debug)]
pub struct File {
    /// Where the bytes are.
    pub content: Content,
    /// What they must hash to; the writer refuses others. `None` where nobody has said (a Debian package's files are
    /// covered by the package's own digest).
    pub sha256: Option<Digest>,
}

impl PartialEq for File {
    /// Equal hashes are equal files; without both hashes, only the very same bytes of the same source are.
    fn eq(&self, other: &Self) -> bool {
        match (self.sha256, other.sha256) {
            (Some(a), Some(b)) => a == b,
            _ => self.content.same_place(&other.content),
        }
    }
}

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory: what imgforge itself writes, such as entry points and RECORD.
    Bytes(Arc<[u8]>),
    /// A range of an open file, as it is: a stored zip entry, or a file of an inflated `data.tar`.
    Range {
        /// The open file.
        source: Arc<Source>,
        /// Bytes from its start.
        offset: u64,
        /// Bytes.
        len: u64,
        /// CRC-32 of the bytes where the archive has one.
        crc32: Option<u32>,
    },
    /// A raw DEFLATE stream in an open file: a zip entry.
    Deflated {
        /// The open file.
        source: Arc<Source>,
        /// Bytes from its start to the DEFLATE stream.
        offset: u64,
        /// Bytes of the DEFLATE stream.
        compressed_len: u64,
        /// Bytes of the file.
        len: u64,
        /// CRC-32 of the file's bytes.
        crc32: u32,
    },
    /// A range of an open file in which other bytes stand at some places: a file of a conda package that names the folder
    /// it was built in.
    Spliced(Spliced),
    /// A file of the host, opened when it is written.
    Host {
        /// Its path.
        path: PathBuf,
        /// Bytes when the tree was made; another length later is an error.
        len: u64,
    },
}

impl Content {
    /// Bytes of the file, uncompressed.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Range { len, .. } | Self::Deflated { len, .. } | Self::Host { len, .. } => *len,
            Self::Spliced(spliced) => spliced.len(),
        }
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (
                Self::Range { source: a, offset: x, len: l, .. },
                Self::Range { source: b, offset: y, len: m, .. },
            ) => Arc::ptr_eq(a, b) && x == y && l == m,
            (Self::Deflated { source: a, offset: x, .. }, Self::Deflated { source: b, offset: y, .. }) => {
                Arc::ptr_eq(a, b) && x == y
            }
            (Self::Spliced(a), Self::Spliced(b)) => a.same_place(b),
            (Self::Host { path: a, .. }, Self::Host { path: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl Entry {
    /// A folder of root's.
    pub const fn directory(mode: u32) -> Self {
        Self::of(Kind::Directory, mode)
    }

    /// A symbolic link.
    pub fn symlink(target: impl Into<String>) -> Self {
        Self::of(Kind::Symlink(target.into()), 0o777)
    }

    /// A file of root's: `0755` when it is executable, else `0644`.
    pub const fn file(content: Content, sha256: Option<Digest>, executable: bool) -> Self {
        Self::of(Kind::File(File { content, sha256 }), if executable { 0o755 } else { 0o644 })
    }

    /// A file of root's whose bytes are here.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>, executable: bool) -> Self {
        let bytes = bytes.into();
        let sha256 = Digest::of(&bytes);
        Self::file(Content::Bytes(bytes), Some(sha256), executable)
    }

    /// An entry of root's.
    pub const fn of(kind: Kind, mode: u32) -> Self {
        Self { kind, mode, uid: 0, gid: 0, xattrs: BTreeMap::new() }
    }

    /// Whether it is a folder.
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }

    /// The content, if it is a regular file.
    pub const fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File(file) => Some(&file.content),
            _ => None,
        }
    }

    /// The folder that a path below it implies: root's, and writable by root alone.
    ///
    /// A layer repeats the folders above what it holds, and an entry of a later layer replaces an earlier one's mode. So
    /// the few folders that every distribution gives another mode get that mode here.
    pub(crate) fn implied(path: &TreePath) -> Self {
        let (mode, gid) = match path.as_str() {
            "tmp" | "var/tmp" => (0o1777, 0),
            "root" => (0o700, 0),
            // Debian's group `staff`.
            "var/local" => (0o2775, 50),
            _ => (0o755, 0),
        };
        Self { gid, ..Self::directory(mode) }
    }

    /// Whether installing one over the other changes nothing that a program would see.
    fn same_content(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Directory, Kind::Directory) => true,
            (a, b) => a == b && self.mode & 0o111 == other.mode & 0o111,
        }
    }
}

/// What can't be put into a tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A name that no archive has a good reason to hold.
    #[error("path `{path}` {problem}")]
    Name {
        /// The path, escaped.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two entries on one path.
    #[error("{path}: two entries with different content")]
    Occupied {
        /// The path.
        path: TreePath,
    },
    /// A file or link where a folder is needed.
    #[error("{path}: {parent} is not a folder")]
    NotAFolder {
        /// The path that was to be added.
        path: TreePath,
        /// What lies above it.
        parent: TreePath,
    },
    /// A hard link to nothing, or to something that is no file.
    #[error("{path}: a hard link to {target}, which is no file of the same tree")]
    Link {
        /// The link.
        path: TreePath,
        /// What it links to.
        target: TreePath,
    },
    /// A folder in one package, something else in another.
    #[error("{path}: a folder in one and not in the other")]
    FolderAndFile {
        /// The path.
        path: TreePath,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (name, text) in files {
            tree.insert(path(name), Entry::bytes(text.as_bytes(), false)).unwrap();
        }
        tree
    }

    #[test]
    fn parents_come_first_and_once() {
        let names: Vec<_> = tree(&[("a/c/x", ""), ("a/b-d", ""), ("a/b/y", "")])
            .iter()
            .map(|(path, _)| path.to_string())
            .collect();
        assert_eq!(names, ["/a", "/a/b", "/a/b-d", "/a/b/y", "/a/c", "/a/c/x"]);
    }

    #[test]
    fn whiteouts_are_made_on_purpose() {
        let whiteout = |path: &str| TreePath::new(path).unwrap().whiteout().map(|path| path.to_string());
        assert_eq!(whiteout("a").unwrap(), "/.wh.a");
        assert_eq!(whiteout("a/b/c").unwrap(), "/a/b/.wh.c");
        assert_eq!(whiteout(&"x".repeat(251)).unwrap().len(), 256);
        assert!(whiteout(&format!("a/{}", "x".repeat(252))).is_err());
    }

    #[test]
    fn refuses_names() {
        let long = "x".repeat(256);
        for name in
            ["", "/", "a//b", "a/", "./a", "a/../b", "..", "a\0b", "a\nb", &long, ".wh.a", "a/.wh..wh..opq/b"]
        {
            assert!(TreePath::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn one_path_one_content() {
        let mut one = tree(&[("a", "1")]);
        assert_eq!(one.insert(path("a"), Entry::bytes(*b"1", false)), Ok(()));
        assert_eq!(
            one.insert(path("a"), Entry::bytes(*b"2", false)),
            Err(TreeError::Occupied { path: path("a") })
        );
        assert_eq!(
            one.insert(path("a/b"), Entry::bytes(*b"2", false)),
            Err(TreeError::NotAFolder { path: path("a/b"), parent: path("a") })
        );
    }

    #[test]
    fn merge_reports_what_differs_and_keeps_the_later() {
        let mut one = tree(&[("p/same", "s"), ("p/mine", "1")]);
        assert_eq!(one.merge(tree(&[("p/same", "s"), ("p/mine", "2")])), Ok(vec![path("p/mine")]));
        assert_eq!(one.get(&path("p/mine")), Some(&Entry::bytes(*b"2", false)));
        assert_eq!(one.merge(tree(&[("p", "file")])), Err(TreeError::FolderAndFile { path: path("p") }));
    }

    #[test]
    fn merge_keeps_the_content_of_hard_links() {
        let mut one = tree(&[("p/a", "mine")]);
        for name in ["p/b", "p/c"] {
            one.insert(path(name), Entry::of(Kind::Hardlink(path("p/a")), 0o644)).unwrap();
        }
        assert_eq!(one.merge(tree(&[("p/a", "theirs")])), Ok(vec![path("p/a")]));
        assert_eq!(one.get(&path("p/a")), Some(&Entry::bytes(*b"theirs", false)));
        assert_eq!(one.get(&path("p/b")), Some(&Entry::bytes(*b"mine", false)));
        assert_eq!(one.get(&path("p/c")).map(|entry| &entry.kind), Some(&Kind::Hardlink(path("p/b"))));
        assert_eq!(one.stream().map(Iterator::count), Ok(4));
    }

    #[test]
    fn implied_folders_take_no_mode_away() {
        let mut one = Tree::new();
        one.insert(path("srv"), Entry::directory(0o2775)).unwrap();
        one.merge(tree(&[("srv/x", "")])).unwrap();
        assert_eq!(one.get(&path("srv")).map(|entry| entry.mode), Some(0o2775));
        assert_eq!(tree(&[("tmp/x", "")]).get(&path("tmp")).map(|entry| entry.mode), Some(0o1777));
    }
}
