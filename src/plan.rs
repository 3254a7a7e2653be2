//! Which layers there are, and what is in each: the joint plan of all images.
//!
//! Planned over all images together, so that what is shared is shared whole:
//!
//! 1. Items are grouped by rank (what kind of thing they are) and by the set of images that use them.
//! 2. Within a group, a large item is a layer of its own. Small ones go to bins chosen by a hash of their *name*; a bin
//!    that holds too many is split by the hash's next bit, as in extendible hashing. So another version of a package
//!    changes one bin, and one package more or less changes one bin or splits it. A bin is split, too, when it has more
//!    bytes than half of what a layer may have: the half, because a layer is not exactly as large as its artifacts.
//! 3. An item of unknown size is alone, as a large one: a wheel without a size is often one of PyTorch's index. Where all
//!    of them alone are too many, they go to bins of their own, of two, then of four, and then to those of the small
//!    ones. What has a size is not touched by that.
//! 4. When an image still has more layers than its budget, the whole plan is made coarser: bins hold twice as many and
//!    items must be twice as large to be alone. That step is rare, and the only one that touches layers at large.
//!
//! The order within an image: by rank, then by the priority that images.toml gives, then what more images share
//! (snapshotters share a chain of layers from the bottom up only), then large items before bins, as they change least.
//! Items of different priorities share no bin.
//!
//! # What stays
//!
//! As long as the budget is kept in the same step:
//!
//! - another version of a package is one new layer in each image that has it, or two where its size makes it large or
//!   small;
//! - a package more takes away one layer at most and gives two, if it brings no set of images that was not there;
//! - an image more touches the groups of which it has some items and not the others, and nothing else.
//!
//! # What it costs
//!
//! A pure function: the same items in any order give the same plan. With `u` uses of items by images, and `g` sets of
//! images, it takes O(u log g) to group the items, and for each step of coarseness as long as it takes to count the layers
//! of all images; there are 43 steps at most, and most families need one. `cargo bench --bench plan` measures families of
//! 500 packages in each image: 10 images take 0.6 ms, 100 take 1.3 ms, 1,000 take 10 ms (one core, release). 1,000 images
//! that each have any half of 1,000 packages, which no budget allows, are refused after 70 ms.

mod bins;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bins::{Layer, Member, Step, name_hash};

/// What kind of thing an item is; also the order of layers in an image, from the bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// The root filesystem's own folders and links.
    Skeleton,
    /// Packages of the root filesystem.
    SystemPackages,
    /// What the root filesystem's packages amount to together, such as dpkg's database.
    SystemGlue,
    /// A virtual environment's own files.
    Environment,
    /// Packages of conda environments; below wheels, which are installed on top of them.
    CondaPackages,
    /// Wheels.
    Packages,
    /// Symbolic links beside the files of packages.
    Links,
    /// What artifacts' scripts have left.
    Artifacts,
    /// Application files.
    Files,
    /// Users and groups; above the files, so that a user's home keeps its owner and mode when files lie in it.
    Users,
}

impl Rank {
    /// Small items of these ranks share layers, this many to start with; others are always alone.
    const fn bin(self) -> Option<usize> {
        match self {
            // A root filesystem is made of many small packages that change together, with the suite.
            Self::SystemPackages => Some(32),
            Self::CondaPackages | Self::Packages => Some(8),
            _ => None,
        }
    }
}

/// Something indivisible that images are made of, as far as the plan needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What makes it the same item in two images.
    pub identity: String,
    /// What stays when its version changes: the package's name.
    pub name: String,
    /// What kind of thing it is.
    pub rank: Rank,
    /// Bytes, compressed. `None`: unknown, and alone as long as the budget allows.
    pub size: Option<u64>,
    /// How seldom it changes, as far as somebody says so: 0 to 100. What changes seldom is below.
    pub priority: u8,
}

/// The priority of what nobody says anything of.
pub const PRIORITY: u8 = 50;

/// What no plan exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Layers of an image, those of its base included.
    pub layers: usize,
    /// Bytes of a layer, compressed. A layer of several items is planned to have half of that at most; an item that is
    /// larger is a layer all the same, and has to be split before.
    pub bytes: u64,
}

/// The layers of all images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Each layer's items, as indices into the items given, by name.
    pub layers: Vec<Vec<usize>>,
    /// For each image given, its layers from the bottom, as indices into `layers`.
    pub images: Vec<Vec<usize>>,
}

/// An image that needs more layers than it may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{image} needs {layers} layers at least{}, the budget is {budget}", Self::of_base(*.below))]
pub struct OverBudget {
    /// The image's name.
    pub image: String,
    /// Layers in the coarsest plan, those of the base included.
    pub layers: usize,
    /// Layers of the base.
    pub below: usize,
    /// Layers that the image may have.
    pub budget: usize,
}

impl OverBudget {
    fn of_base(below: usize) -> String {
        if below > 0 { format!(", {below} of them its base's") } else { String::new() }
    }
}

/// An image, as far as the plan needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageItems {
    /// Its name, other than that of each other image.
    pub name: String,
    /// Its items, as indices.
    pub items: Vec<usize>,
    /// Layers of a base that lie below and are not planned, but count against the budget.
    pub below: usize,
}

/// Items of this many bytes and more are alone, in the finest plan.
pub const LARGE: u64 = 32 << 20;

/// Plans the layers of all images together.
///
/// # Errors
/// [`OverBudget`] when no plan, however coarse, has at most `limits.layers` layers in each image.
pub fn plan(items: &[Item], images: &[ImageItems], limits: Limits) -> Result<Plan, OverBudget> {
    let groups = group(items, images);
    let mut last = None;
    for step in Step::all(&groups) {
        let layers: Vec<_> = groups.iter().map(|group| group.split(step, limits.bytes)).collect();
        match over_budget(images, &groups, &layers, limits.layers) {
            None => return Ok(assemble(images, &groups, layers)),
            over => last = over,
        }
    }
    Err(last.unwrap_or(OverBudget { image: String::new(), layers: 0, below: 0, budget: limits.layers }))
}

/// Items of one rank and priority that the same images use.
struct Group<'a> {
    rank: Rank,
    priority: Reverse<u8>,
    /// Indices into the images given, by the images' names.
    users: Vec<usize>,
    /// The users' places among all images sorted by name, ascending.
    places: Vec<usize>,
    /// By hash, name and identity.
    members: Vec<Member<'a>>,
}

fn group<'a>(items: &'a [Item], images: &[ImageItems]) -> Vec<Group<'a>> {
    let mut by_name: Vec<usize> = (0..images.len()).collect();
    by_name.sort_by_key(|&image| images.get(image).map(|image| &image.name));
    let mut places: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    for (place, &image) in by_name.iter().enumerate() {
        for &item in images.get(image).map(|image| &image.items).into_iter().flatten() {
            if let Some(places) = places.get_mut(item)
                && places.last() != Some(&place)
            {
                places.push(place);
            }
        }
    }
    let mut groups: BTreeMap<(Rank, Reverse<u8>, Vec<usize>), Vec<Member<'a>>> = BTreeMap::new();
    for (index, (item, places)) in items.iter().zip(places).enumerate() {
        if !places.is_empty() {
            let member = Member { hash: name_hash(&item.name), item, index };
            groups.entry((item.rank, Reverse(item.priority), places)).or_default().push(member);
        }
    }
    let group = |((rank, priority, places), mut members): (_, Vec<Member<'a>>)| {
        let places: Vec<usize> = places;
        members.sort_by(|a, b| (a.hash, a.order()).cmp(&(b.hash, b.order())));
        let users = places.iter().filter_map(|&place| by_name.get(place)).copied().collect();
        Group { rank, priority, users, places, members }
    };
    groups.into_iter().map(group).collect()
}

/// The first image with too many layers, if there is one.
fn over_budget(
    images: &[ImageItems],
    groups: &[Group<'_>],
    layers: &[Vec<Layer<'_>>],
    budget: usize,
) -> Option<OverBudget> {
    let mut counts: Vec<usize> = images.iter().map(|image| image.below).collect();
    for (group, layers) in groups.iter().zip(layers) {
        for &user in &group.users {
            if let Some(count) = counts.get_mut(user) {
                *count += layers.len();
            }
        }
    }
    let (image, layers) = images.iter().zip(counts).find(|(_, count)| *count > budget)?;
    Some(OverBudget { image: image.name.clone(), layers, below: image.below, budget })
}

/// Puts the layers of all groups into their order, and numbers them.
fn assemble(images: &[ImageItems], groups: &[Group<'_>], layers: Vec<Vec<Layer<'_>>>) -> Plan {
    let mut all: Vec<(&Group<'_>, Layer<'_>)> = groups
        .iter()
        .zip(layers)
        .flat_map(|(group, layers)| layers.into_iter().map(move |layer| (group, layer)))
        .collect();
    all.sort_by(|(a, x), (b, y)| {
        let order = |group: &Group<'_>| (group.rank, group.priority, Reverse(group.places.len()));
        order(a).cmp(&order(b)).then_with(|| x.place.cmp(&y.place)).then_with(|| a.places.cmp(&b.places))
    });
    let mut plan = Plan { layers: Vec::with_capacity(all.len()), images: vec![Vec::new(); images.len()] };
    for (number, (group, layer)) in all.into_iter().enumerate() {
        for &user in &group.users {
            if let Some(layers) = plan.images.get_mut(user) {
                layers.push(number);
            }
        }
        plan.layers.push(layer.items);
    }
    plan
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
