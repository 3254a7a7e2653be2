//! Which layers there are, and what is in each: the joint plan of all images.
//!
//! Planned over all images together, so that what is shared is shared whole:
//!
//! 1. Items are grouped by rank (what kind of thing they are) and by the set of images that use them.
//! 2. Within a group, a large item is a layer of its own. Small ones go to bins chosen by a hash of their *name*; a bin
//!    that holds too many is split by the hash's next bit, as in extendible hashing. So another version of a package
//!    changes one bin, and one package more or less changes one bin or splits it.
//! 3. When an image has more layers than its budget, the whole plan is made coarser: bins hold twice as many and items
//!    must be twice as large to be alone. That step is rare, and the only one that touches layers at large.
//!
//! The order within an image: by rank, then by the priority that images.toml gives, then what more images share
//! (snapshotters share a chain of layers from the bottom up only), then large items before bins, as they change least.
//! Items of different priorities share no bin.
//!
//! A pure function: the same items in any order give the same plan. It costs O(n log n) in all uses of all items.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use imgforge_oci::Digest;

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
    /// Bytes, compressed. `None`: unknown, and planned as a large item.
    pub size: Option<u64>,
    /// How seldom it changes, as far as somebody says so: 0 to 100. What changes seldom is below.
    pub priority: u8,
}

/// The priority of what nobody says anything of.
pub const PRIORITY: u8 = 50;

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
/// [`OverBudget`] when no plan, however coarse, has at most `budget` layers in each image.
pub fn plan(items: &[Item], images: &[ImageItems], budget: usize) -> Result<Plan, OverBudget> {
    let groups = group(items, images);
    // Beyond this level nothing gets coarser: a bin holds more items than there can be.
    let mut last = None;
    for level in 0..COARSEST {
        let (plan, over) = at_level(items, images, &groups, level, budget);
        match over {
            None => return Ok(plan),
            over => last = over,
        }
    }
    Err(last.unwrap_or(OverBudget { image: String::new(), layers: 0, below: 0, budget }))
}

/// Levels of coarseness: at the last, every item that may be in a bin is.
const COARSEST: u32 = 40;

/// Items of one rank and priority that the same images use.
struct Group {
    rank: Rank,
    priority: Reverse<u8>,
    /// Indices into the images sorted by name, ascending.
    users: Vec<usize>,
    items: Vec<usize>,
}

fn group(items: &[Item], images: &[ImageItems]) -> Vec<Group> {
    let mut by_name: Vec<usize> = (0..images.len()).collect();
    by_name.sort_by_key(|&image| images.get(image).map(|image| &image.name));
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    for (place, &image) in by_name.iter().enumerate() {
        for &item in images.get(image).map(|image| &image.items).into_iter().flatten() {
            if let Some(users) = users.get_mut(item)
                && users.last() != Some(&place)
            {
                users.push(place);
            }
        }
    }
    let mut groups: BTreeMap<(Rank, Reverse<u8>, Vec<usize>), Vec<usize>> = BTreeMap::new();
    for (index, (item, users)) in items.iter().zip(users).enumerate() {
        if !users.is_empty() {
            groups.entry((item.rank, Reverse(item.priority), users)).or_default().push(index);
        }
    }
    let group = |((rank, priority, users), items)| Group { rank, priority, users, items };
    groups.into_iter().map(group).collect()
}

fn at_level(
    items: &[Item],
    images: &[ImageItems],
    groups: &[Group],
    level: u32,
    budget: usize,
) -> (Plan, Option<OverBudget>) {
    let mut layers = Vec::new();
    for group in groups {
        let members: Vec<(usize, &Item)> =
            group.items.iter().filter_map(|&index| Some((index, items.get(index)?))).collect();
        for (place, members) in split(group.rank, members, level) {
            let order = (group.rank, group.priority, Reverse(group.users.len()), place, group.users.clone());
            layers.push((order, members));
        }
    }
    layers.sort_by(|(a, _), (b, _)| a.cmp(b));

    let mut by_name: Vec<usize> = (0..images.len()).collect();
    by_name.sort_by_key(|&image| images.get(image).map(|image| &image.name));
    let mut plan = Plan { layers: Vec::new(), images: vec![Vec::new(); images.len()] };
    for (number, ((.., users), members)) in layers.into_iter().enumerate() {
        for image in users.into_iter().filter_map(|place| by_name.get(place)) {
            if let Some(layers) = plan.images.get_mut(*image) {
                layers.push(number);
            }
        }
        plan.layers.push(members);
    }
    let mut counts =
        plan.images.iter().zip(images).map(|(layers, image)| (layers.len() + image.below, image));
    let over = counts.find(|(layers, _)| *layers > budget);
    let over = over.map(|(layers, image)| {
        let ImageItems { name, below, .. } = image;
        OverBudget { image: name.clone(), layers, below: *below, budget }
    });
    (plan, over)
}

/// Where a layer lies within its group: large items by name, then bins by the bits that they share.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Alone { name: String, identity: String },
    Bin { bits: u64, depth: u32 },
}

fn split(rank: Rank, members: Vec<(usize, &Item)>, level: u32) -> Vec<(Place, Vec<usize>)> {
    let bin = rank.bin().map(|capacity| capacity.checked_shl(level).unwrap_or(usize::MAX));
    let large = LARGE.checked_shl(level).filter(|large| large >> level == LARGE);
    let mut layers = Vec::new();
    let mut small = Vec::new();
    for (index, item) in members {
        let alone = match (bin, item.size, large) {
            (None, ..) => true,
            (_, Some(size), Some(large)) => size >= large,
            (_, None, Some(_)) => level < COARSEST / 2,
            (_, _, None) => false,
        };
        if alone {
            let place = Place::Alone { name: item.name.clone(), identity: item.identity.clone() };
            layers.push((place, vec![index]));
        } else {
            small.push((name_hash(&item.name), item, index));
        }
    }
    if let Some(capacity) = bin {
        small.sort_by(|a, b| (a.0, &a.1.name, &a.1.identity).cmp(&(b.0, &b.1.name, &b.1.identity)));
        fill(&small, 0, capacity, &mut layers);
    }
    layers
}

/// Puts items, sorted by hash, into one bin, or splits them by the bit at `depth`.
fn fill(items: &[(u64, &Item, usize)], depth: u32, capacity: usize, layers: &mut Vec<(Place, Vec<usize>)>) {
    let Some(&(first, ..)) = items.first() else { return };
    if items.len() <= capacity || depth == 64 {
        let mut members: Vec<_> = items.to_vec();
        members.sort_by(|a, b| (&a.1.name, &a.1.identity).cmp(&(&b.1.name, &b.1.identity)));
        let bits = if depth == 0 { 0 } else { first >> (64 - depth) };
        layers.push((Place::Bin { bits, depth }, members.into_iter().map(|(_, _, index)| index).collect()));
        return;
    }
    let bit = 1 << (63 - depth);
    let (zeros, ones) = items.split_at(items.partition_point(|(hash, ..)| hash & bit == 0));
    fill(zeros, depth + 1, capacity, layers);
    fill(ones, depth + 1, capacity, layers);
}

/// Decides the bin; part of what must not change, or every bin does.
fn name_hash(name: &str) -> u64 {
    let digest = Digest::of(name.as_bytes());
    digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn item(name: &str, version: &str, size: Option<u64>) -> Item {
        let identity = format!("{name} {version}");
        Item { identity, name: name.into(), rank: Rank::Packages, size, priority: PRIORITY }
    }

    /// Each image's layers as sets of identities.
    fn layers(items: &[Item], images: &[ImageItems], budget: usize) -> Vec<Vec<Vec<String>>> {
        let plan = plan(items, images, budget).unwrap();
        let names = |layer: &usize| plan.layers[*layer].iter().map(|&i| items[i].identity.clone()).collect();
        plan.images.iter().map(|layers| layers.iter().map(names).collect()).collect()
    }

    fn packages(count: usize) -> Vec<Item> {
        (0..count).map(|i| item(&format!("package-{i}"), "1", Some(1000))).collect()
    }

    fn image(name: &str, items: Vec<usize>) -> ImageItems {
        ImageItems { name: name.into(), items, below: 0 }
    }

    fn one_image(items: &[Item]) -> Vec<ImageItems> {
        vec![image("image", (0..items.len()).collect())]
    }

    #[test]
    fn large_items_are_alone_and_first() {
        let items = [item("a", "1", Some(5)), item("torch", "2", Some(LARGE)), item("unknown", "1", None)];
        assert_eq!(
            layers(&items, &one_image(&items), 80),
            [[vec!["torch 2"], vec!["unknown 1"], vec!["a 1"]]]
        );
    }

    #[test]
    fn what_is_shared_is_below_and_whole() {
        let items = packages(6);
        let images = vec![image("devel", vec![0, 1, 2, 3, 4, 5]), image("runtime", vec![3, 1])];
        let [devel, runtime] = layers(&items, &images, 80).try_into().unwrap();
        assert_eq!(runtime, [["package-1 1", "package-3 1"]]);
        assert_eq!(devel[0], runtime[0]);
        assert_eq!(devel.len(), 2);
    }

    #[test]
    fn what_changes_seldom_is_below() {
        let mut items = packages(4);
        items[2].priority = 90;
        items[1].priority = 10;
        let found = layers(&items, &one_image(&items), 80).remove(0);
        let names: Vec<_> = found.iter().map(|layer| layer.join(" ")).collect();
        assert_eq!(names, ["package-2 1", "package-0 1 package-3 1", "package-1 1"]);
    }

    #[test]
    fn another_version_changes_one_layer() {
        let mut items = packages(300);
        let images = one_image(&items);
        let before: BTreeSet<_> = layers(&items, &images, 80).remove(0).into_iter().collect();
        items[42].identity = "package-42 2".into();
        items[42].size = Some(LARGE - 1);
        let after: BTreeSet<_> = layers(&items, &images, 80).remove(0).into_iter().collect();
        assert_eq!(after.difference(&before).count(), 1);
        assert!(before.len() > 30, "{}", before.len());
    }

    #[test]
    fn another_package_changes_a_bin_or_splits_it() {
        let all = packages(300);
        for removed in 0..40 {
            let before: BTreeSet<_> = layers(&all, &one_image(&all), 127).remove(0).into_iter().collect();
            let mut less = all.clone();
            less.remove(removed);
            let after: BTreeSet<_> = layers(&less, &one_image(&less), 127).remove(0).into_iter().collect();
            assert!(before.difference(&after).count() <= 2, "{removed}");
        }
    }

    #[test]
    fn the_budget_holds() {
        let items = packages(2000);
        assert!(layers(&items, &one_image(&items), 20)[0].len() <= 20);
        let large: Vec<_> = (0..50).map(|i| item(&format!("large-{i}"), "1", Some(LARGE * 3))).collect();
        assert!(layers(&large, &one_image(&large), 10)[0].len() <= 10);
        let unknown: Vec<_> = (0..50).map(|i| item(&format!("unknown-{i}"), "1", None)).collect();
        assert!(layers(&unknown, &one_image(&unknown), 10)[0].len() <= 10);
        // What a base has counts too.
        let above = ImageItems { below: 8, ..image("image", (0..2000).collect()) };
        assert!(layers(&items, &[above], 20)[0].len() <= 12);
        let files: Vec<_> =
            (0..5).map(|i| Item { rank: Rank::Files, ..item(&format!("{i}"), "", None) }).collect();
        let over = |images: &[ImageItems], budget| plan(&files, images, budget).unwrap_err().to_string();
        assert_eq!(over(&one_image(&files), 4), "image needs 5 layers at least, the budget is 4");
        let above = ImageItems { below: 8, ..image("image", (0..5).collect()) };
        assert_eq!(
            over(&[above], 12),
            "image needs 13 layers at least, 8 of them its base's, the budget is 12"
        );
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same_plan(
            sizes in prop::collection::vec(prop::option::of(0..2 * LARGE), 1..60),
            uses in prop::collection::vec(any::<u8>(), 60),
            budget in 8..40_usize,
            seed in any::<u64>(),
        ) {
            let items: Vec<_> =
                sizes.iter().enumerate().map(|(i, size)| item(&format!("p{i}"), "1", *size)).collect();
            let images: Vec<ImageItems> = (0..3)
                .map(|bit| {
                    let used = (0..items.len()).filter(|&i| uses[i] >> bit & 1 == 1).collect();
                    image(&format!("image-{bit}"), used)
                })
                .collect();
            let straight = layers(&items, &images, budget);
            // Every item is exactly once in each image that uses it.
            for (layers, image) in straight.iter().zip(&images) {
                let mut found: Vec<_> = layers.iter().flatten().cloned().collect();
                let mut wanted: Vec<_> = image.items.iter().map(|&i| items[i].identity.clone()).collect();
                found.sort();
                wanted.sort();
                prop_assert_eq!(found, wanted);
                prop_assert!(layers.len() <= budget);
            }
            let mut order: Vec<usize> = (0..items.len()).collect();
            order.sort_by_key(|&i| (i as u64 + 1).wrapping_mul(seed | 1));
            let shuffled: Vec<_> = order.iter().map(|&i| items[i].clone()).collect();
            let mut turned: Vec<ImageItems> = images
                .iter()
                .map(|before| {
                    let place = |i| order.iter().position(|o| o == i).unwrap();
                    image(&before.name, before.items.iter().map(place).collect())
                })
                .collect();
            turned.reverse();
            let mut again = layers(&shuffled, &turned, budget);
            again.reverse();
            prop_assert_eq!(straight, again);
        }
    }
}
