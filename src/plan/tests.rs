use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const CAP: u64 = 4 << 30;

fn item(name: &str, version: &str, size: Option<u64>) -> Item {
    let identity = format!("{name} {version}");
    Item { identity, name: name.into(), rank: Rank::Packages, size, priority: PRIORITY }
}

/// Each image's layers as lists of identities.
fn layers(items: &[Item], images: &[ImageItems], budget: usize) -> Vec<Vec<Vec<String>>> {
    let plan = plan(items, images, Limits { layers: budget, bytes: CAP }).unwrap();
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
    assert_eq!(layers(&items, &one_image(&items), 80), [[vec!["torch 2"], vec!["unknown 1"], vec!["a 1"]]]);
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

/// Wheels of unknown size are alone, then in pairs, then in fours, then among the small ones; what has a size stays as it
/// is all the while.
#[test]
fn unknown_sizes_cost_the_others_nothing() {
    let mut items = packages(60);
    items.extend((0..5).map(|i| item(&format!("large-{i}"), "1", Some(LARGE))));
    let of_known = layers(&items, &one_image(&items), 127).remove(0);
    items.extend((0..100).map(|i| item(&format!("unknown-{i}"), "1", None)));
    let unknown = |budget: usize| {
        let found = layers(&items, &one_image(&items), budget).remove(0);
        assert!(found.len() <= budget);
        let (unknown, known): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|layer| layer.iter().any(|item| item.starts_with("unknown")));
        let largest = unknown.iter().map(Vec::len).max().unwrap();
        (largest, known == of_known)
    };
    assert_eq!(unknown(127), (1, true));
    assert_eq!(unknown(100), (2, true));
    assert_eq!(unknown(70), (4, true));
    // Now with the small ones, in bins that hold as many as theirs.
    assert_eq!(unknown(40), (8, false));
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
    let over = |images: &[ImageItems], layers| {
        plan(&files, images, Limits { layers, bytes: CAP }).unwrap_err().to_string()
    };
    assert_eq!(over(&one_image(&files), 4), "image needs 5 layers at least, the budget is 4");
    let above = ImageItems { below: 8, ..image("image", (0..5).collect()) };
    assert_eq!(over(&[above], 12), "image needs 13 layers at least, 8 of them its base's, the budget is 12");
}

/// However few layers there may be, none has too many bytes.
#[test]
fn the_cap_is_above_the_budget() {
    let items: Vec<_> = (0..64).map(|i| item(&format!("p{i}"), "1", Some(LARGE * 2))).collect();
    let within = |layers| plan(&items, &one_image(&items), Limits { layers, bytes: LARGE * 20 });
    let found = within(30).unwrap();
    assert!(found.layers.iter().all(|layer| layer.len() <= 5), "{:?}", found.layers);
    assert!(within(10).is_err());
}

#[test]
fn packages_of_one_name_can_be_set_apart() {
    let versions = |count| (0..count).map(|i| item("same", &i.to_string(), Some(LARGE / 2))).collect();
    let items: Vec<_> = versions(20);
    let plan = |bytes| plan(&items, &one_image(&items), Limits { layers: 80, bytes }).unwrap().layers.len();
    assert_eq!(plan(CAP), 1);
    assert_eq!(plan(LARGE * 4), 20);
}

// ---- what holds for any family

/// Packages that come with features, and images that have some of the features.
#[derive(Clone, Debug)]
struct Family {
    items: Vec<Item>,
    /// The feature of each item.
    features: Vec<usize>,
    /// Bits: the features of each image.
    images: Vec<u8>,
}

const FEATURES: usize = 6;

impl Family {
    fn images(&self) -> Vec<ImageItems> {
        let image = |(number, has): (usize, &u8)| {
            let items = (0..self.items.len()).filter(|&i| has >> self.features[i] & 1 == 1).collect();
            image(&format!("image-{number}"), items)
        };
        self.images.iter().enumerate().map(image).collect()
    }

    fn plan(&self, limits: Limits) -> Result<Plan, OverBudget> {
        plan(&self.items, &self.images(), limits)
    }

    /// Each image's layers as sets of identities.
    fn layers(&self, limits: Limits) -> Vec<BTreeSet<Vec<String>>> {
        let plan = self.plan(limits).unwrap();
        let names =
            |layer: &usize| plan.layers[*layer].iter().map(|&i| self.items[i].identity.clone()).collect();
        plan.images.iter().map(|layers| layers.iter().map(names).collect()).collect()
    }

    /// The images that have an item, its rank and its priority: what makes its group.
    fn group(&self, item: usize) -> (Vec<usize>, Rank, u8) {
        let users =
            (0..self.images.len()).filter(|&image| self.images[image] >> self.features[item] & 1 == 1);
        (users.collect(), self.items[item].rank, self.items[item].priority)
    }
}

fn size() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        6 => (0..LARGE).prop_map(Some),
        1 => (LARGE..20 * LARGE).prop_map(Some),
        1 => Just(None),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    let rank = prop_oneof![
        4 => Just(Rank::Packages),
        2 => Just(Rank::CondaPackages),
        2 => Just(Rank::SystemPackages),
        1 => Just(Rank::Files),
    ];
    let priority = prop_oneof![5 => Just(PRIORITY), 1 => Just(90)];
    let item = (size(), rank, priority, 0..FEATURES);
    (prop::collection::vec(item, 1..150), prop::collection::vec(any::<u8>(), 1..6)).prop_map(
        |(items, images)| {
            let mut family = Family { items: Vec::new(), features: Vec::new(), images };
            for (number, (size, rank, priority, feature)) in items.into_iter().enumerate() {
                let item = Item { rank, priority, ..item_of(number, size) };
                family.items.push(item);
                family.features.push(feature);
            }
            family
        },
    )
}

fn item_of(number: usize, size: Option<u64>) -> Item {
    item(&format!("p{number}"), "1", size)
}

/// No limits, so that all plans are made in the first step.
const ROOM: Limits = Limits { layers: usize::MAX, bytes: u64::MAX };

proptest! {
    #[test]
    fn every_item_is_in_one_layer_and_once_in_each_image(family in family(), layers in 1..200_usize) {
        let Ok(plan) = family.plan(Limits { layers, bytes: CAP }) else { return Ok(()) };
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        for (number, members) in plan.layers.iter().enumerate() {
            prop_assert!(!members.is_empty());
            for &member in members {
                prop_assert_eq!(seen.insert(member, number), None);
            }
        }
        for (layers, image) in plan.images.iter().zip(family.images()) {
            let mut found: Vec<usize> = layers.iter().flat_map(|&layer| plan.layers[layer].clone()).collect();
            found.sort_unstable();
            prop_assert_eq!(found, image.items);
        }
    }

    #[test]
    fn budget_and_cap_hold(family in family(), layers in 1..200_usize, cap in 1..40_u64) {
        let limits = Limits { layers, bytes: cap * LARGE };
        let Ok(plan) = family.plan(limits) else { return Ok(()) };
        prop_assert!(plan.images.iter().all(|image| image.len() <= layers));
        for members in plan.layers.iter().filter(|members| members.len() > 1) {
            let bytes: u64 = members.iter().map(|&member| family.items[member].size.unwrap_or(LARGE)).sum();
            prop_assert!(bytes <= limits.bytes / 2, "{bytes} in {members:?}");
        }
    }

    /// A plan is refused only where one layer for each group, and one for each item that shares none, is too much.
    #[test]
    fn what_can_be_planned_is(family in family(), layers in 1..40_usize) {
        let least = |image: &ImageItems| {
            let shares = |&item: &usize| family.items[item].rank.bin().is_some();
            let (sharing, own): (Vec<usize>, Vec<usize>) = image.items.iter().partition(|&item| shares(item));
            own.len() + sharing.into_iter().map(|item| family.group(item)).collect::<BTreeSet<_>>().len()
        };
        let fits = family.images().iter().all(|image| least(image) <= layers);
        prop_assert_eq!(family.plan(Limits { layers, bytes: u64::MAX }).is_ok(), fits);
    }

    #[test]
    fn any_order_gives_the_same_plan(family in family(), layers in 1..200_usize, seed in any::<u64>()) {
        let limits = Limits { layers, bytes: CAP };
        let mut order: Vec<usize> = (0..family.items.len()).collect();
        order.sort_by_key(|&i| (i as u64 + 1).wrapping_mul(seed | 1));
        let items: Vec<_> = order.iter().map(|&i| family.items[i].clone()).collect();
        let place: BTreeMap<usize, usize> = order.iter().enumerate().map(|(place, &i)| (i, place)).collect();
        let images = family.images();
        let mut turned: Vec<ImageItems> = images
            .iter()
            .map(|image| {
                let items = image.items.iter().rev().map(|i| place[i]).collect();
                ImageItems { items, ..image.clone() }
            })
            .collect();
        turned.reverse();
        match (plan(&family.items, &images, limits), plan(&items, &turned, limits)) {
            (Ok(straight), Ok(mut again)) => {
                again.images.reverse();
                prop_assert_eq!(&straight.images, &again.images);
                let back = again.layers.iter().map(|layer| layer.iter().map(|&i| order[i]).collect::<Vec<_>>());
                prop_assert_eq!(straight.layers, back.collect::<Vec<_>>());
            }
            (straight, again) => prop_assert_eq!(straight.is_err(), again.is_err()),
        }
    }

    /// Whatever the limits, where the size stays.
    #[test]
    fn another_version_is_one_new_layer(family in family(), at in any::<prop::sample::Index>(), layers in 1..200_usize) {
        let limits = Limits { layers, bytes: CAP };
        prop_assume!(family.plan(limits).is_ok());
        let mut bumped = family.clone();
        let at = at.index(family.items.len());
        bumped.items[at].identity = format!("p{at} 2");
        for (number, (before, after)) in family.layers(limits).into_iter().zip(bumped.layers(limits)).enumerate() {
            let uses = family.images()[number].items.contains(&at);
            prop_assert_eq!(after.difference(&before).count(), usize::from(uses));
        }
    }

    /// A large one leaves its layer, or a bin; it comes to a layer of its own, or to a bin that may have to be split.
    #[test]
    fn another_size_is_two_new_layers_at_most(
        family in family(), at in any::<prop::sample::Index>(), size in size(),
    ) {
        let mut bumped = family.clone();
        let at = at.index(family.items.len());
        bumped.items[at] = Item { identity: format!("p{at} 2"), size, ..bumped.items[at].clone() };
        for (before, after) in family.layers(ROOM).into_iter().zip(bumped.layers(ROOM)) {
            prop_assert!(after.difference(&before).count() <= 2);
        }
    }

    #[test]
    fn another_package_changes_one_bin_or_splits_it(family in family(), size in size(), feature in 0..FEATURES) {
        // Features without an item so far could be a group that is new, and so is its layer.
        let mut more = family.clone();
        more.items.push(item_of(family.items.len(), size));
        more.features.push(feature);
        for (before, after) in family.layers(ROOM).into_iter().zip(more.layers(ROOM)) {
            prop_assert!(before.difference(&after).count() <= 1);
            prop_assert!(after.difference(&before).count() <= 2);
        }
    }

    /// The groups of which an image has some items and not the others are split; no other layer changes.
    #[test]
    fn another_image_changes_what_it_splits(family in family(), features in any::<u8>()) {
        let has = |item: usize| features >> family.features[item] & 1 == 1;
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for item in 0..family.items.len() {
            groups.entry(family.group(item)).or_default().push(item);
        }
        let is_split = |group: &[usize]| group.iter().any(|&i| has(i)) && !group.iter().all(|&i| has(i));
        let touched: BTreeSet<&str> = groups
            .values()
            .filter(|group| is_split(group))
            .flatten()
            .map(|&i| family.items[i].identity.as_str())
            .collect();
        let mut more = family.clone();
        more.images.push(features);
        for (before, after) in family.layers(ROOM).iter().zip(more.layers(ROOM)) {
            for layer in before.symmetric_difference(&after) {
                prop_assert!(touched.contains(layer[0].as_str()), "{layer:?}");
            }
        }
    }
}
