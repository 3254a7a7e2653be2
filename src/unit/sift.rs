//! A package that some images have less of than others: `strip` in images.toml.
//!
//! Such a package is divided into the part that all of them have and parts that only some have. So what a devel and a
//! runtime image share is one layer in both, and what the runtime image leaves out is a layer of the devel image alone. A
//! package that all images leave the same out of has no further part.

use std::collections::BTreeSet;
use std::sync::Arc;

use imgforge_layer::Strip;
use serde_json::json;

use super::{Recipe, Unit};
use crate::Error;

/// A package is left out of in at most so many different ways: n ways are up to 2^n parts.
pub const WAYS: usize = 4;

impl Unit {
    /// Whether anything may be left out of it: packages, and nothing of our own.
    pub fn is_package(&self) -> bool {
        matches!(self.recipe, Recipe::Wheel { .. } | Recipe::Conda(_) | Recipe::Debian(_))
    }

    /// The parts of a package, each with what it is left out by: the bits of `strips`. Only those of `masks`.
    ///
    /// The part that all have is planned as if it were the whole; the others as small ones, since how large they are is not known
    /// before the package is. `cap` is in bytes.
    pub fn sift(self: &Arc<Self>, strips: &Arc<[Strip]>, by: u8, cap: u64) -> Vec<Self> {
        let identity = json!({"sifted": self.item.identity, "strips": **strips, "by": by});
        let (name, title, size) = match by {
            0 => (self.item.name.clone(), format!("{}, stripped", self.title), self.item.size),
            _ => {
                let size = self.item.size.map(|size| if size > cap { size } else { 0 });
                let which = if strips.len() > 1 { format!(" {by}") } else { String::new() };
                (
                    format!("{} rest{which}", self.item.name),
                    format!("{}, rest{which}", self.title),
                    size.or(Some(0)),
                )
            }
        };
        let recipe = Recipe::Sifted { whole: Arc::clone(self), strips: Arc::clone(strips), by };
        let unit = Self::new(self.item.rank, &name, &title, size, &identity, recipe);
        unit.with_priority(self.item.priority).split(cap)
    }
}

/// Which parts an image has that leaves things out in these of all `strips`, or in none of them for an image that has the
/// package whole. An image with two environments that have the package has what either of them keeps.
pub fn parts(strips: &[Strip], own: &BTreeSet<Strip>) -> Vec<u8> {
    let masks = 0..1_u8 << strips.len().min(WAYS);
    let keeps = |mask: u8| {
        own.iter().any(|strip| match strips.iter().position(|other| other == strip) {
            Some(bit) => mask & (1 << bit) == 0,
            None => true,
        })
    };
    masks.filter(|&mask| keeps(mask)).collect()
}

/// All ways in which images leave things out of one package.
///
/// # Errors
/// [`Error::Strips`] for more than can be told apart.
pub fn ways<'s>(package: &Unit, strips: impl Iterator<Item = &'s Strip>) -> Result<Arc<[Strip]>, Error> {
    let strips: BTreeSet<&Strip> = strips.filter(|strip| !strip.is_empty()).collect();
    if strips.len() > WAYS {
        return Err(Error::Strips { package: package.title.clone(), ways: strips.len() });
    }
    Ok(strips.into_iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(pattern: &str) -> Strip {
        Strip::new([(String::new(), vec![pattern.to_owned()])]).unwrap()
    }

    /// The parts that an image has, of those that `all` patterns make.
    #[track_caller]
    fn check(all: &[&str], own: &[&str], expected: &[u8]) {
        let all: Vec<_> = all.iter().map(|pattern| strip(pattern)).collect();
        let whole = |pattern: &&str| if pattern.is_empty() { Strip::default() } else { strip(pattern) };
        assert_eq!(parts(&all, &own.iter().map(whole).collect()), expected);
    }

    #[test]
    fn parts_of_an_image() {
        check(&["a"], &["a"], &[0]);
        check(&["a"], &[""], &[0, 1]);
        check(&["a"], &["", "a"], &[0, 1]);
        check(&["a", "b"], &["a"], &[0, 2]);
        check(&["a", "b"], &["a", "b"], &[0, 1, 2]);
        check(&["a", "b"], &[""], &[0, 1, 2, 3]);
    }
}
