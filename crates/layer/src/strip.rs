//! What is left out of packages: patterns of paths, and a tree divided by them.
//!
//! One package may be whole in one image and without its headers in another. Its tree is divided, rather than made twice:
//! what every image has is one part, and what some leave out is another, so that the larger part is the same layer in all
//! of them.

use std::collections::{BTreeMap, BTreeSet};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::Serialize;

use crate::tree::{Kind, Tree, TreeError, TreePath};

/// Which paths are left out: lists of patterns, each with the folder that they are relative to.
///
/// A path is left out when any of the lists says so. The patterns are gitignore's: `tests` is a file or folder of that name
/// anywhere, `*.a` is any such file, `/include` is right below the list's folder, and `!` brings something back.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Strip(Vec<(String, Vec<String>)>);

/// A pattern that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("pattern `{pattern}` can't be read")]
pub struct PatternError {
    /// As it is written.
    pub pattern: String,
    /// Why.
    pub source: ignore::Error,
}

impl Strip {
    /// Lists of patterns with their folders, which are absolute or empty for the root. Lists without a pattern are none.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(lists: impl IntoIterator<Item = (String, Vec<String>)>) -> Result<Self, PatternError> {
        let lists = lists.into_iter().filter(|(_, patterns)| !patterns.is_empty());
        let lists = lists.map(|(folder, patterns)| (folder.trim_matches('/').to_owned(), patterns));
        let strip = Self(lists.collect());
        strip.compile()?;
        Ok(strip)
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn compile(&self) -> Result<Compiled, PatternError> {
        let compile = |(folder, patterns): &(String, Vec<String>)| {
            let error = |pattern: &str| {
                let pattern = pattern.to_owned();
                move |source| PatternError { pattern, source }
            };
            let mut builder = GitignoreBuilder::new("");
            for pattern in patterns {
                builder.add_line(None, pattern).map_err(error(pattern))?;
            }
            let compiled = builder.build().map_err(error(&patterns.join(" ")))?;
            Ok((if folder.is_empty() { String::new() } else { format!("{folder}/") }, compiled))
        };
        Ok(Compiled(self.0.iter().map(compile).collect::<Result<_, _>>()?))
    }

    /// The tree without what is left out.
    ///
    /// # Errors
    /// [`SiftError`].
    pub fn apply(&self, tree: &Tree) -> Result<Tree, SiftError> {
        sift(tree, std::slice::from_ref(self), 0)
    }

    /// Those of the paths that are not left out, as a filter. Each comes with whether it is a folder.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn keeps(&self) -> Result<impl Fn(&TreePath, bool) -> bool + use<>, PatternError> {
        let compiled = self.compile()?;
        Ok(move |path: &TreePath, is_folder: bool| !compiled.matches(path.as_str(), is_folder))
    }
}

struct Compiled(Vec<(String, Gitignore)>);

impl Compiled {
    fn matches(&self, path: &str, is_folder: bool) -> bool {
        self.0.iter().any(|(folder, patterns)| {
            let relative = path.strip_prefix(folder.as_str()).filter(|relative| !relative.is_empty());
            relative.is_some_and(|it| patterns.matched_path_or_any_parents(it, is_folder).is_ignore())
        })
    }
}

/// Why a tree can't be divided.
#[derive(Debug, thiserror::Error)]
pub enum SiftError {
    /// A pattern that is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// What a tree that is one whole can't give.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The part of a tree that exactly those of `strips` leave out whose bits are set in `by`; the bit of the first is 1. With 0
/// it is what all of them keep. The parts for all values of `by` are the whole tree, each path in one of them but for the folders above.
///
/// Of at most eight strips. Names of one file (hard links) stay together: they are left out where all of them would be.
///
/// # Errors
/// [`SiftError`].
pub fn sift(tree: &Tree, strips: &[Strip], by: u8) -> Result<Tree, SiftError> {
    let compiled = strips.iter().map(Strip::compile).collect::<Result<Vec<_>, _>>()?;
    let of = |path: &TreePath, is_folder: bool| {
        let bits = compiled.iter().zip(0..8_u8).map(|(strip, bit)| {
            let is_left_out = strip.matches(path.as_str(), is_folder);
            u8::from(is_left_out) << bit
        });
        bits.fold(0, |all, bit| all | bit)
    };
    // Files with several names, each with what leaves all of them out.
    let mut linked: BTreeMap<&TreePath, u8> = BTreeMap::new();
    for (path, entry) in tree.iter() {
        if let Kind::Hardlink(target) = &entry.kind {
            *linked.entry(target).or_insert_with(|| of(target, false)) &= of(path, false);
        }
    }
    let mut wanted: BTreeSet<TreePath> = BTreeSet::new();
    for (path, entry) in tree.iter() {
        let own = match &entry.kind {
            Kind::Hardlink(target) => linked.get(target).copied().unwrap_or_default(),
            _ => linked.get(path).copied().unwrap_or_else(|| of(path, entry.is_directory())),
        };
        if own == by {
            wanted.extend(path.ancestors());
            wanted.insert(path.clone());
        }
    }
    let mut part = Tree::new();
    for (path, entry) in tree.iter().filter(|(path, _)| wanted.contains(path)) {
        part.insert(path.clone(), entry.clone())?;
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::Entry;

    fn strip(folder: &str, patterns: &[&str]) -> Strip {
        Strip::new([(folder.to_owned(), patterns.iter().map(|&text| text.to_owned()).collect())]).unwrap()
    }

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for path in paths {
            let (path, entry) = match path.split_once(" = ") {
                Some((path, target)) => {
                    (path, Entry::of(Kind::Hardlink(TreePath::new(target).unwrap()), 0o644))
                }
                None => (*path, Entry::bytes(path.as_bytes().to_vec(), false)),
            };
            tree.insert(TreePath::new(path).unwrap(), entry).unwrap();
        }
        tree
    }

    fn listed(tree: &Tree) -> Vec<String> {
        tree.iter().filter(|(_, entry)| !entry.is_directory()).map(|(path, _)| path.to_string()).collect()
    }

    /// The files that are left of some in `/v`.
    #[track_caller]
    fn check(patterns: &[&str], files: &[&str], expected: &[&str]) {
        assert_eq!(listed(&strip("/v", patterns).apply(&tree(files)).unwrap()), expected);
    }

    const FILES: &[&str] = &[
        "v/include/a.h",
        "v/lib/a.a",
        "v/lib/p/include/b.h",
        "v/lib/p/tests/t.py",
        "v/lib/tests.py",
        "w/tests/t.py",
    ];

    #[test]
    fn patterns_are_those_of_gitignore() {
        check(
            &["tests"],
            FILES,
            &["/v/include/a.h", "/v/lib/a.a", "/v/lib/p/include/b.h", "/v/lib/tests.py", "/w/tests/t.py"],
        );
        check(
            &["/include", "*.a"],
            FILES,
            &["/v/lib/p/include/b.h", "/v/lib/p/tests/t.py", "/v/lib/tests.py", "/w/tests/t.py"],
        );
        check(
            &["lib/**/include/"],
            FILES,
            &["/v/include/a.h", "/v/lib/a.a", "/v/lib/p/tests/t.py", "/v/lib/tests.py", "/w/tests/t.py"],
        );
        check(&["*", "!*.py", "v"], FILES, &["/v/lib/p/tests/t.py", "/v/lib/tests.py", "/w/tests/t.py"]);
    }

    #[test]
    fn names_of_one_file_stay_together() {
        check(&["*.a"], &["v/x.a", "v/y.so = v/x.a"], &["/v/x.a", "/v/y.so"]);
        check(&["*.a"], &["v/x.a", "v/y.a = v/x.a"], &[]);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Strip::new([(String::new(), vec!["a".to_owned(), "{".to_owned()])]).unwrap_err();
        assert_eq!(error.to_string(), "pattern `{` can't be read");
    }

    proptest! {
        /// Every path is in one part, folders besides; and together they are the tree.
        #[test]
        fn parts_are_the_whole(
            files in prop::collection::btree_map("[a-c]/[a-d]{1,2}/[a-c]{1,2}", any::<bool>(), 1..30),
            patterns in prop::collection::vec(prop::collection::vec("!?/?[a-d*]{1,2}/?", 1..3), 1..4),
        ) {
            let mut whole = Tree::new();
            whole.insert(TreePath::new("a").unwrap(), Entry::directory(0o2775)).unwrap();
            let mut first: Option<TreePath> = None;
            for (path, is_link) in &files {
                let path = TreePath::new(path).unwrap();
                let entry = match (&first, is_link) {
                    (Some(first), true) => Entry::of(Kind::Hardlink(first.clone()), 0o644),
                    _ => Entry::bytes(path.as_str().as_bytes().to_vec(), false),
                };
                first.get_or_insert_with(|| path.clone());
                whole.insert(path, entry).unwrap();
            }
            let strips: Vec<Strip> =
                patterns.into_iter().map(|list| Strip::new([(String::new(), list)]).unwrap()).collect();
            let mut together = Tree::new();
            let mut count = 0;
            for by in 0..1 << strips.len() {
                let part = sift(&whole, &strips, by).unwrap();
                count += listed(&part).len();
                // A link without its file could not be written.
                crate::write_layer(&part, crate::Codec::None, 0, &mut Vec::new()).unwrap();
                prop_assert_eq!(together.merge(part).unwrap(), vec![]);
            }
            prop_assert_eq!(count, files.len());
            let all = |tree: &Tree| tree.iter().map(|(path, entry)| (path.clone(), entry.clone())).collect::<Vec<_>>();
            prop_assert_eq!(all(&together), all(&whole));
            // What an image with one of them has is what that one keeps of the whole.
            for (at, strip) in strips.iter().enumerate() {
                let mut kept = Tree::new();
                for by in (0..1_u8 << strips.len()).filter(|by| by & (1 << at) == 0) {
                    kept.merge(sift(&whole, &strips, by).unwrap()).unwrap();
                }
                prop_assert_eq!(listed(&kept), listed(&strip.apply(&whole).unwrap()));
            }
        }
    }
}
