//! What of a package is installed where, checked against the package's own list of its files.

use std::collections::{BTreeMap, BTreeSet};

use imgforge_layer::{Content, Entry, File, Kind, Tree, TreeError, TreePath};
use imgforge_oci::{Digest, Hasher};
use rattler_conda_types::package::{EntryPoint, FileMode, PathType, PathsEntry, PrefixPlaceholder};
use rattler_conda_types::prefix_record;

use crate::contents::{Contents, Item, Stored};
use crate::metadata::List;
use crate::{Installation, Problem, Python, entry_point, prefix};

/// A package's files at their places, and what the record says about each.
pub(crate) struct Linked {
    pub(crate) tree: Tree,
    pub(crate) paths: Vec<prefix_record::PathsEntry>,
}

/// Links everything that is listed.
pub(crate) fn link(
    contents: &Contents,
    entries: Vec<PathsEntry>,
    list: List,
    installation: &Installation<'_>,
    python: Option<&Python>,
) -> Result<Linked, Problem> {
    let mut linker = Linker {
        contents,
        list,
        prefix: installation.prefix,
        prefix_text: installation.prefix.to_string(),
        python,
        tree: Tree::new(),
        paths: Vec::with_capacity(entries.len()),
        first_links: BTreeMap::new(),
    };
    let mut listed = BTreeSet::new();
    let mut installed = BTreeSet::new();
    for entry in entries {
        let path = linker.checked_path(&entry)?;
        let target = linker.target(&path);
        if !installed.insert(target.clone()) || listed.contains(&path) {
            return Err(Problem::Repeated { path });
        }
        if let Some(linked) = linker.entry(&path, &target, entry)? {
            linker.paths.push(linked);
        }
        listed.insert(path);
    }
    if let Some(path) = contents.files().find(|path| !listed.contains(*path)) {
        return Err(Problem::Unlisted { path: path.escape_debug().to_string(), list: list.name() });
    }
    Ok(Linked { tree: linker.tree, paths: linker.paths })
}

struct Linker<'a> {
    contents: &'a Contents,
    list: List,
    prefix: &'a TreePath,
    /// With its leading slash.
    prefix_text: String,
    /// Of a noarch package of Python modules.
    python: Option<&'a Python>,
    tree: Tree,
    paths: Vec<prefix_record::PathsEntry>,
    /// Files by where they begin in the archive: where they are installed first, and what they must hash to.
    first_links: BTreeMap<u64, (TreePath, Option<Digest>)>,
}

/// What a linked entry's record says beside what its list says.
#[derive(Default)]
struct Outcome {
    sha256_in_prefix: Option<Digest>,
    size: Option<u64>,
    file_mode: Option<FileMode>,
}

impl Linker<'_> {
    /// The path as text, if it can be one of a package.
    fn checked_path(&self, entry: &PathsEntry) -> Result<String, Problem> {
        let path = entry.relative_path.to_str().unwrap_or_default();
        // Absolute paths would lose their slash.
        self.prefix.join(path)?;
        let is_reserved = path.starts_with("__clobbers__/")
            || path == "CACHEDIR.TAG"
            || path == "conda-meta/history"
            || path.strip_prefix("conda-meta/").is_some_and(|name| name.ends_with(".json"));
        if is_reserved { Err(Problem::Reserved { path: path.to_owned() }) } else { Ok(path.to_owned()) }
    }

    /// Where a path of the package is installed, below the prefix.
    fn target(&self, path: &str) -> String {
        let Some(python) = self.python else { return path.to_owned() };
        for (folder, target) in [("site-packages", python.site_packages.as_str()), ("python-scripts", "bin")]
        {
            match path.strip_prefix(folder) {
                Some("") => return target.to_owned(),
                Some(rest) if rest.starts_with('/') => return format!("{target}{rest}"),
                _ => {}
            }
        }
        path.to_owned()
    }

    /// Links one entry; nothing for a link whose file is missing, where rattler installs nothing.
    fn entry(
        &mut self,
        path: &str,
        target: &str,
        entry: PathsEntry,
    ) -> Result<Option<prefix_record::PathsEntry>, Problem> {
        let at = self.prefix.join(target)?;
        let item = match self.contents.get(path) {
            Some(item) => item,
            None if entry.path_type == PathType::Directory && self.contents.is_directory(path) => {
                &Item::Directory
            }
            None => {
                return Err(Problem::Absent {
                    path: path.escape_debug().to_string(),
                    list: self.list.name(),
                });
            }
        };
        let outcome = match (entry.path_type, item, &entry.prefix_placeholder) {
            (PathType::Directory, Item::Directory, None) => {
                self.tree.insert(at, Entry::directory(0o755))?;
                Outcome { size: entry.size_in_bytes, ..Outcome::default() }
            }
            (PathType::HardLink, Item::File(file), None) => self.file(path, at, &entry, file)?,
            (PathType::HardLink, Item::File(file), Some(placeholder)) => {
                self.check_size(path, &entry, file)?;
                self.replaced(path, at, &entry, file, file.mode, placeholder)?
            }
            (PathType::SoftLink, Item::Symlink(link), Some(placeholder)) => {
                // Rattler reads through the link, and gives the new file the link's own mode.
                let Some(file) = self.contents.follow(path, link)? else {
                    let (target, reason) =
                        (link.escape_debug().to_string(), "there is no such file in the package");
                    return Err(Problem::Link { path: path.to_owned(), target, reason });
                };
                let Outcome { size, file_mode, .. } = self.replaced(
                    path,
                    at,
                    &PathsEntry { sha256: None, ..entry.clone() },
                    file,
                    0o777,
                    placeholder,
                )?;
                Outcome { sha256_in_prefix: None, size, file_mode }
            }
            (PathType::SoftLink, Item::Symlink(link), None) if entry.no_link => {
                let Some(file) = self.contents.follow(path, link)? else { return Ok(None) };
                self.tree.insert(at, plain(file, None, file.mode))?;
                Outcome { size: entry.size_in_bytes.or(Some(file.len)), ..Outcome::default() }
            }
            (PathType::SoftLink, Item::Symlink(link), None) => {
                self.tree.insert(at, Entry::symlink(link.as_str()))?;
                Outcome { size: entry.size_in_bytes.or(Some(link.len() as u64)), ..Outcome::default() }
            }
            (PathType::Directory, Item::Directory, Some(_)) => {
                let reason = "it is a folder";
                return Err(Problem::Placeholder { path: path.to_owned(), reason });
            }
            (listed, item, _) => {
                let listed = match listed {
                    PathType::HardLink => "file",
                    PathType::SoftLink => "symbolic link",
                    PathType::Directory => "folder",
                };
                let (path, found, list) = (path.to_owned(), item.what(), self.list.name());
                return Err(Problem::Kind { path, listed, found, list });
            }
        };
        let Outcome { sha256_in_prefix, size, file_mode } = outcome;
        Ok(Some(prefix_record::PathsEntry {
            relative_path: target.into(),
            original_path: None,
            path_type: entry.path_type.into(),
            no_link: entry.no_link,
            sha256: entry.sha256,
            sha256_in_prefix: sha256_in_prefix.map(|digest| (*digest.as_bytes()).into()),
            size_in_bytes: size,
            file_mode,
            prefix_placeholder: entry.prefix_placeholder.map(|placeholder| placeholder.placeholder),
        }))
    }

    /// A file as the archive has it. Its hash is left to whoever writes the layer, who has to read it anyway; where the
    /// list has none, it belongs into the record and is found out here.
    fn file(
        &mut self,
        path: &str,
        at: TreePath,
        entry: &PathsEntry,
        file: &Stored,
    ) -> Result<Outcome, Problem> {
        self.check_size(path, entry, file)?;
        let listed = listed_digest(entry);
        let digest = listed.map_or_else(|| hash(file), Ok)?;
        let outcome = Outcome {
            sha256_in_prefix: listed.is_none().then_some(digest),
            size: entry.size_in_bytes.or(Some(file.len)),
            file_mode: None,
        };
        // Names of one file stay names of one file, unless the list wants a copy.
        let new = match self.first_links.get(&file.offset).filter(|_| !entry.no_link) {
            Some((_, first)) if *first != Some(digest) => {
                let found = first.unwrap_or(digest);
                return Err(Problem::Hash { path: path.to_owned(), listed: digest, found });
            }
            Some((first, _)) => Entry::of(Kind::Hardlink(first.clone()), file.mode),
            None => {
                if !entry.no_link {
                    self.first_links.insert(file.offset, (at.clone(), Some(digest)));
                }
                plain(file, Some(digest), file.mode)
            }
        };
        self.tree.insert(at, new)?;
        Ok(outcome)
    }

    /// A file with the image's prefix in the placeholder's place.
    fn replaced(
        &mut self,
        path: &str,
        at: TreePath,
        entry: &PathsEntry,
        file: &Stored,
        mode: u32,
        placeholder: &PrefixPlaceholder,
    ) -> Result<Outcome, Problem> {
        let replaced = prefix::replace(path, file, placeholder, &self.prefix_text)?;
        let listed = listed_digest(entry);
        if let Some(listed) = listed.filter(|listed| *listed != replaced.original) {
            return Err(Problem::Hash { path: path.to_owned(), listed, found: replaced.original });
        }
        let outcome = Outcome {
            sha256_in_prefix: (listed != Some(replaced.sha256)).then_some(replaced.sha256),
            size: Some(replaced.content.len()),
            file_mode: Some(placeholder.file_mode),
        };
        let new = if replaced.content.splices().is_empty() {
            plain(file, Some(replaced.sha256), mode)
        } else {
            let content = Content::Spliced(replaced.content);
            Entry::of(Kind::File(File { content, sha256: Some(replaced.sha256) }), mode)
        };
        self.tree.insert(at, new)?;
        Ok(outcome)
    }

    fn check_size(&self, path: &str, entry: &PathsEntry, file: &Stored) -> Result<(), Problem> {
        match entry.size_in_bytes {
            Some(listed) if listed != file.len => {
                Err(Problem::Size { path: path.to_owned(), listed, found: file.len })
            }
            _ => Ok(()),
        }
    }
}

/// Adds the scripts of a package's commands, which stand over files of the same package.
pub(crate) fn link_entry_points(
    linked: &mut Linked,
    entry_points: &[EntryPoint],
    prefix: &TreePath,
    python: &Python,
) -> Result<(), Problem> {
    for entry_point in entry_points {
        let script = entry_point::script(entry_point, &prefix.to_string(), python);
        let path = format!("bin/{}", entry_point.command);
        let digest = Digest::of(script.as_bytes());
        let size = script.len() as u64;
        let content = Content::Bytes(script.into_bytes().into());
        let entry = Entry::of(Kind::File(File { content, sha256: Some(digest) }), entry_point::MODE);
        let at = prefix.join(&path)?;
        let mut tree = Tree::new();
        tree.insert(at.clone(), entry)?;
        if linked.tree.get(&at).is_some_and(Entry::is_directory) {
            return Err(TreeError::FolderAndFile { path: at }.into());
        }
        linked.tree.merge(tree)?;
        linked.paths.push(prefix_record::PathsEntry {
            relative_path: path.into(),
            original_path: None,
            path_type: prefix_record::PathType::UnixPythonEntryPoint,
            no_link: false,
            sha256: Some((*digest.as_bytes()).into()),
            sha256_in_prefix: None,
            size_in_bytes: Some(size),
            file_mode: None,
            prefix_placeholder: None,
        });
    }
    Ok(())
}

fn plain(file: &Stored, sha256: Option<Digest>, mode: u32) -> Entry {
    Entry::of(Kind::File(File { content: file.content(), sha256 }), mode)
}

fn listed_digest(entry: &PathsEntry) -> Option<Digest> {
    entry.sha256.map(|digest| Digest::from_bytes(digest.into()))
}

fn hash(file: &Stored) -> Result<Digest, Problem> {
    const PIECE: u64 = 256 << 10;
    let mut hasher = Hasher::new();
    let mut at = 0;
    while at < file.len {
        let len = PIECE.min(file.len - at);
        let piece = file.source.read(file.offset + at, len as usize).map_err(Problem::Read)?;
        hasher.update(&piece);
        at += len;
    }
    Ok(hasher.finish())
}
