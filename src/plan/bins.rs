//! What of a group shares a layer.

use imgforge_oci::Digest;

use super::{Group, Item, LARGE};

/// How coarse a plan is.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// Bins hold as many times 2 as this says, and items must be as many times larger to be alone.
    level: u32,
    /// Items of unknown size that share a bin, where they have bins of their own.
    unsized_items: Option<usize>,
}

impl Step {
    /// From the finest to the coarsest.
    pub(super) fn all(groups: &[Group<'_>]) -> impl Iterator<Item = Self> {
        let sizes = groups.iter().flat_map(|group| &group.members).map(|member| member.item.size);
        // Without items of unknown size, these steps are the same as the one after them.
        let own: &[usize] = if sizes.into_iter().any(|size| size.is_none()) { &[1, 2, 4] } else { &[] };
        let own = own.iter().map(|&count| Self { level: 0, unsized_items: Some(count) });
        own.chain((0..COARSEST).map(|level| Self { level, unsized_items: None }))
    }
}

/// Levels of coarseness: at the last, every item that may be in a bin is, and a bin holds more than there can be.
const COARSEST: u32 = 40;

/// An item of a group.
#[derive(Clone, Copy)]
pub(super) struct Member<'a> {
    /// Of its name.
    pub(super) hash: u64,
    pub(super) item: &'a Item,
    /// Among the items given.
    pub(super) index: usize,
}

impl<'a> Member<'a> {
    /// By what the members of a layer are sorted.
    pub(super) fn order(&self) -> (&'a str, &'a str) {
        (&self.item.name, &self.item.identity)
    }

    fn alone(&self) -> Layer<'a> {
        let (name, identity) = self.order();
        Layer { place: Place::Alone { name, identity }, items: vec![self.index] }
    }
}

/// Items that share a layer.
pub(super) struct Layer<'a> {
    pub(super) place: Place<'a>,
    /// Indices into the items given, by name and identity.
    pub(super) items: Vec<usize>,
}

/// Where a layer lies within its group: large items by name, then bins by the bits that they share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place<'a> {
    Alone { name: &'a str, identity: &'a str },
    UnsizedBin { bits: u64, depth: u32 },
    Bin { bits: u64, depth: u32 },
}

impl<'a> Group<'a> {
    /// The group's layers, none of several items with more than half of `cap` bytes.
    pub(super) fn split(&self, step: Step, cap: u64) -> Vec<Layer<'a>> {
        let Some(capacity) = self.rank.bin() else { return self.members.iter().map(Member::alone).collect() };
        let capacity = capacity.checked_shl(step.level).unwrap_or(usize::MAX);
        // Where the shift loses bits, nothing is as large as that.
        let large = LARGE.checked_shl(step.level).filter(|large| large >> step.level == LARGE);
        let (mut layers, mut unsized_items, mut small) = (Vec::new(), Vec::new(), Vec::new());
        for &member in &self.members {
            match (member.item.size, step.unsized_items) {
                (Some(size), _) if large.is_some_and(|large| size >= large) => layers.push(member.alone()),
                (None, Some(1)) => layers.push(member.alone()),
                (None, Some(_)) => unsized_items.push(member),
                _ => small.push(member),
            }
        }
        let bytes = cap / 2;
        let bin = |items, place| Bins { items, bytes, place };
        if let Some(items) = step.unsized_items {
            bin(items, |bits, depth| Place::UnsizedBin { bits, depth }).fill(&unsized_items, 0, &mut layers);
        }
        bin(capacity, |bits, depth| Place::Bin { bits, depth }).fill(&small, 0, &mut layers);
        layers
    }
}

/// What bins hold, and what they are called.
struct Bins {
    items: usize,
    bytes: u64,
    place: fn(u64, u32) -> Place<'static>,
}

impl Bins {
    /// Puts members, sorted by hash, into one bin, or splits them by the bit at `depth`.
    fn fill<'a>(&self, members: &[Member<'a>], depth: u32, layers: &mut Vec<Layer<'a>>) {
        let Some(first) = members.first() else { return };
        // One of unknown size counts as if it were just large.
        let bytes =
            members.iter().map(|member| member.item.size.unwrap_or(LARGE)).fold(0, u64::saturating_add);
        let is_light = members.len() == 1 || bytes <= self.bytes;
        if is_light && (members.len() <= self.items || depth == 64) {
            let mut members = members.to_vec();
            members.sort_by_key(Member::order);
            let bits = if depth == 0 { 0 } else { first.hash >> (64 - depth) };
            let items = members.iter().map(|member| member.index).collect();
            layers.push(Layer { place: (self.place)(bits, depth), items });
        } else if depth == 64 {
            // Packages of one name that are too much together: nothing else sets them apart.
            layers.extend(members.iter().map(Member::alone));
        } else {
            let bit = 1 << (63 - depth);
            let (zeros, ones) = members.split_at(members.partition_point(|member| member.hash & bit == 0));
            self.fill(zeros, depth + 1, layers);
            self.fill(ones, depth + 1, layers);
        }
    }
}

/// Decides the bin; part of what must not change, or every bin does.
pub(super) fn name_hash(name: &str) -> u64 {
    let digest = Digest::of(name.as_bytes());
    digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
