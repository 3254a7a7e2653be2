//! An artifact too large for one layer, in several.
//!
//! Registries refuse blobs above some size, so a unit that would be larger is split by file: its tree's paths, in their
//! order, are cut into stretches of about the same number of bytes. How many there are follows from the artifact's size,
//! which locks say, so a part's key is known before anything is fetched; which files are in it follows from the tree.

use std::collections::BTreeSet;
use std::sync::Arc;

use imgforge_layer::{Content, Kind, Tree, TreeError, TreePath};
use serde_json::json;

use super::{Recipe, Unit};

/// Which of how many parts of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Counted from 0.
    pub number: u32,
    /// At least 2.
    pub of: u32,
}

impl Unit {
    /// The unit itself, or its parts when it has more than `cap` bytes, compressed.
    ///
    /// Files compress unequally, so parts are meant to be half as large as they may be.
    pub fn split(self, cap: u64) -> Vec<Self> {
        let Some(size) = self.item.size.filter(|size| *size > cap) else { return vec![self] };
        let of = u32::try_from(size.div_ceil((cap / 2).max(1))).unwrap_or(u32::MAX);
        let whole = Arc::new(self);
        (0..of)
            .map(|number| {
                let identity = json!({"part": [number, of], "of": whole.item.identity});
                // By name, the parts follow each other.
                let name = format!("{} {number:03}", whole.item.name);
                let title = format!("{}, part {} of {of}", whole.title, number + 1);
                let recipe = Recipe::Part { whole: Arc::clone(&whole), part: Part { number, of } };
                Self::new(whole.item.rank, &name, &title, Some(size / u64::from(of)), &identity, recipe)
                    .with_priority(whole.item.priority)
            })
            .collect()
    }

    /// The unit that this is a part of, or itself.
    pub fn whole(self: &Arc<Self>) -> &Arc<Self> {
        match &self.recipe {
            Recipe::Part { whole, .. } | Recipe::Sifted { whole, .. } => whole.whole(),
            _ => self,
        }
    }
}

impl Part {
    /// The part's own entries. A hard link is where its file is; folders are where anything below them is, and those that
    /// are empty in the first part.
    ///
    /// # Errors
    /// [`TreeError`], which a tree that is one whole can't give.
    pub fn cut(self, tree: &Tree) -> Result<Tree, TreeError> {
        let total = u128::from(tree.content_len().max(1));
        let (number, last) = (u128::from(self.number), u128::from(self.of - 1));
        let mut before: u64 = 0;
        let mut wanted: BTreeSet<&TreePath> = BTreeSet::new();
        let mut filled: BTreeSet<TreePath> = BTreeSet::new();
        for (path, entry) in tree.iter().filter(|(_, entry)| !entry.is_directory()) {
            filled.extend(path.ancestors());
            if matches!(entry.kind, Kind::Hardlink(_)) {
                continue;
            }
            if (u128::from(before) * u128::from(self.of) / total).min(last) == number {
                wanted.insert(path);
            }
            before += entry.content().map_or(0, Content::len);
        }
        let links = tree.iter().filter_map(|(path, entry)| match &entry.kind {
            Kind::Hardlink(target) if wanted.contains(target) => Some(path),
            _ => None,
        });
        let links: Vec<&TreePath> = links.collect();
        wanted.extend(links);
        let empty = tree.iter().filter(|(path, entry)| entry.is_directory() && !filled.contains(path));
        wanted.extend(empty.filter(|_| self.number == 0).map(|(path, _)| path));
        let above: BTreeSet<TreePath> = wanted.iter().flat_map(|path| path.ancestors()).collect();
        let mut own = Tree::new();
        for (path, entry) in tree.iter() {
            if wanted.contains(path) || above.contains(path) {
                own.insert(path.clone(), entry.clone())?;
            }
        }
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use imgforge_layer::Entry;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every path is in one part, folders besides; and together they are the tree.
        #[test]
        fn parts_are_the_whole(
            files in prop::collection::btree_map("[a-c]/[a-d]{1,2}/[a-z]{1,3}", (0..50_usize, any::<bool>()), 1..30),
            of in 2..6_u32,
        ) {
            let mut tree = Tree::new();
            tree.insert(TreePath::new("empty/folder").unwrap(), Entry::directory(0o700)).unwrap();
            tree.insert(TreePath::new("a").unwrap(), Entry::directory(0o2775)).unwrap();
            let mut first: Option<TreePath> = None;
            for (path, (len, link)) in &files {
                let path = TreePath::new(path).unwrap();
                let entry = match (&first, link) {
                    (Some(first), true) => Entry::of(Kind::Hardlink(first.clone()), 0o644),
                    _ => Entry::bytes(vec![b'x'; *len], false),
                };
                first.get_or_insert_with(|| path.clone());
                tree.insert(path, entry).unwrap();
            }
            let mut together = Tree::new();
            let mut count = 0;
            for number in 0..of {
                let part = Part { number, of }.cut(&tree).unwrap();
                count += part.iter().filter(|(_, entry)| !entry.is_directory()).count();
                // A link without its file could not be written.
                imgforge_layer::write_layer(&part, imgforge_layer::Codec::None, 0, &mut Vec::new()).unwrap();
                prop_assert_eq!(together.merge(part).unwrap(), vec![]);
            }
            prop_assert_eq!(count, files.len());
            let listed = |tree: &Tree| tree.iter().map(|(path, entry)| (path.clone(), entry.clone())).collect::<Vec<_>>();
            prop_assert_eq!(listed(&together), listed(&tree));
        }
    }

    #[test]
    fn parts_by_size() {
        let unit = |size| {
            Unit::new(crate::plan::Rank::Packages, "a", "a 1", size, &json!(1), Recipe::Files(Arc::default()))
        };
        assert_eq!(unit(None).split(10).len(), 1);
        assert_eq!(unit(Some(10)).split(10).len(), 1);
        let parts = unit(Some(11)).split(10);
        assert_eq!(
            parts.iter().map(|part| part.title.as_str()).collect::<Vec<_>>(),
            ["a 1, part 1 of 3", "a 1, part 2 of 3", "a 1, part 3 of 3"]
        );
        assert_eq!(
            parts.into_iter().map(Arc::new).map(|part| part.whole().title.clone()).collect::<Vec<_>>(),
            ["a 1"; 3]
        );
    }
}
