//! What the tars of a package hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use imgforge_layer::members::{Member, MemberKind, Members};
use imgforge_layer::{Content, Source, TreePath};

use crate::Problem;
use crate::archive::{Holds, Tar};

/// The entries of a package, by their paths in it.
#[derive(Default)]
pub(crate) struct Contents {
    /// Files below `info/`, by their whole paths: those of [`METADATA`], and others that hard links may lead to.
    info: BTreeMap<String, Stored>,
    /// All that is not below `info/`.
    entries: BTreeMap<String, Item>,
}

/// An entry of a package.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    File(Stored),
    Symlink(String),
    Directory,
}

impl Item {
    pub(crate) const fn what(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Symlink(_) => "symbolic link",
            Self::Directory => "folder",
        }
    }
}

/// A file of a package: a range of a decompressed tar.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) source: Arc<Source>,
    /// Where it begins; hard links to it begin there too.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) len: u64,
    /// Permission bits as rattler's extraction leaves them: without set-uid, set-gid and sticky.
    pub(crate) mode: u32,
}

impl Stored {
    pub(crate) fn content(&self) -> Content {
        let source = Arc::clone(&self.source);
        Content::Range { source, offset: self.offset, len: self.len, crc32: None }
    }
}

/// What is read of `info/`; nothing of it is installed.
const METADATA: [&str; 7] = [
    "info/index.json",
    "info/paths.json",
    "info/link.json",
    "info/files",
    "info/has_prefix",
    "info/no_link",
    "info/no_softlink",
];

/// The largest packages have some 100,000 entries.
const MAX_ENTRIES: usize = 500_000;
/// A paths.json has some 300 bytes for each file.
const MAX_INFO_FILE: u64 = 128 << 20;
/// What Linux takes.
const MAX_TARGET: usize = 4095;

impl Contents {
    /// Reads the entries of all tars.
    pub(crate) fn read(tars: &[Tar]) -> Result<Self, Problem> {
        let mut contents = Self::default();
        for tar in tars {
            let error = |source| Problem::Tar { name: tar.name.clone(), source };
            let mut members = Members::new(&tar.source, 0, tar.source.len());
            while let Some(member) = members.next().map_err(error)? {
                contents.add(tar, &member)?;
                if contents.info.len() + contents.entries.len() > MAX_ENTRIES {
                    return Err(Problem::TooMany { limit: MAX_ENTRIES });
                }
            }
            members.finish().map_err(error)?;
        }
        Ok(contents)
    }

    fn add(&mut self, tar: &Tar, member: &Member) -> Result<(), Problem> {
        let error = |reason| Problem::Entry { name: member.name.escape_debug().to_string(), reason };
        let Some(path) = relative(&member.name)? else {
            return match member.kind {
                MemberKind::Directory => Ok(()),
                _ => Err(error("is no name of a file")),
            };
        };
        let is_info = path == "info" || path.starts_with("info/");
        let is_metadata = METADATA.contains(&path.as_str());
        match tar.holds {
            Holds::Info if !is_info => return Err(error("is not below info/, in a tar for what is")),
            Holds::Content if is_metadata => return Err(error("is in the tar of content")),
            _ => {}
        }
        let item = match &member.kind {
            MemberKind::Directory => Item::Directory,
            MemberKind::File => Item::File(Stored {
                source: Arc::clone(&tar.source),
                offset: member.offset,
                len: member.len,
                mode: member.mode & 0o777,
            }),
            MemberKind::Symlink(target) if target.is_empty() => return Err(error("is a link to nothing")),
            MemberKind::Symlink(target) if target.len() > MAX_TARGET => {
                return Err(error("is a link with a target longer than 4,095 bytes"));
            }
            MemberKind::Symlink(target) => Item::Symlink(target.clone()),
            MemberKind::Hardlink(target) => {
                let target = relative(target)?.ok_or_else(|| error("is a hard link to the root folder"))?;
                match self.entries.get(&target) {
                    Some(Item::File(file)) => Item::File(file.clone()),
                    _ => match self.info.get(&target) {
                        Some(file) => Item::File(file.clone()),
                        None => return Err(error("is a hard link to a name that no file before it has")),
                    },
                }
            }
        };
        if !is_info {
            let is_directory = matches!(item, Item::Directory);
            return match self.entries.insert(path, item) {
                None => Ok(()),
                Some(Item::Directory) if is_directory => Ok(()),
                Some(_) => Err(error("is in the archive twice")),
            };
        }
        match item {
            // Licences are in both tars of some packages.
            Item::File(file) => match self.info.insert(path, file) {
                Some(_) if is_metadata => Err(error("is in the archive twice")),
                _ => Ok(()),
            },
            _ if is_metadata => Err(error("is no file")),
            Item::Symlink(_) | Item::Directory => Ok(()),
        }
    }

    /// A file below `info/` as text, if there is one.
    pub(crate) fn info(&self, name: &'static str) -> Result<Option<String>, Problem> {
        let error = |reason: String| Problem::Metadata { name, reason };
        let Some(file) = self.info.get(name) else { return Ok(None) };
        if file.len > MAX_INFO_FILE {
            return Err(error(format!("it has {} bytes, more than {MAX_INFO_FILE}", file.len)));
        }
        let bytes = file.source.read(file.offset, file.len as usize).map_err(Problem::Read)?;
        String::from_utf8(bytes).map(Some).map_err(|_| error("it is not UTF-8".to_owned()))
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Item> {
        self.entries.get(path)
    }

    /// Whether a path is a folder: one of its own, or one above something.
    pub(crate) fn is_directory(&self, path: &str) -> bool {
        match self.entries.get(path) {
            Some(item) => matches!(item, Item::Directory),
            None => {
                let below = format!("{path}/");
                self.entries.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
            }
        }
    }

    /// What is not a folder, by path.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        let is_file = |(_, item): &(&String, &Item)| !matches!(item, Item::Directory);
        self.entries.iter().filter(is_file).map(|(path, _)| path.as_str())
    }

    /// The file that a symbolic link of the package leads to, within the package; nothing if there is none.
    pub(crate) fn follow(&self, link: &str, target: &str) -> Result<Option<&Stored>, Problem> {
        let error = |reason| {
            let target = target.escape_debug().to_string();
            Problem::Link { path: link.to_owned(), target, reason }
        };
        let mut todo: Vec<&str> = target.split('/').rev().collect();
        let mut at: Vec<&str> = link.split('/').collect();
        at.pop();
        if target.starts_with('/') {
            return Err(error(
                "a copy of the file there is to be installed, and that is no file of the package",
            ));
        }
        let mut links = 0;
        while let Some(component) = todo.pop() {
            match component {
                "" | "." => {}
                ".." if at.pop().is_none() => return Err(error("that is outside the package")),
                ".." => {}
                _ => {
                    at.push(component);
                    if let Some(Item::Symlink(target)) = self.entries.get(&at.join("/")) {
                        links += 1;
                        if links > 40 {
                            return Err(error("there are too many links on the way"));
                        }
                        if target.starts_with('/') {
                            return Err(error("there is an absolute link on the way"));
                        }
                        at.pop();
                        todo.extend(target.split('/').rev());
                    }
                }
            }
        }
        let path = at.join("/");
        match self.entries.get(&path) {
            Some(Item::File(file)) => Ok(Some(file)),
            None if !self.is_directory(&path) => Ok(None),
            _ => Err(error("a copy of the file there is to be installed, and that is a folder")),
        }
    }
}

/// A name of a tar without the `./` before it and the slash behind it; nothing for the root folder.
fn relative(name: &str) -> Result<Option<String>, Problem> {
    if name.starts_with('/') {
        return Err(Problem::Entry { name: name.escape_debug().to_string(), reason: "is an absolute name" });
    }
    let name = name.strip_prefix("./").unwrap_or(name);
    let name = name.strip_suffix('/').unwrap_or(name);
    if name.is_empty() || name == "." {
        return Ok(None);
    }
    TreePath::new(name)?;
    Ok(Some(name.to_owned()))
}
