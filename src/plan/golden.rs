//! Plans of whole families, as text: a change of the planner shows what becomes of them, in a diff.
//!
//! A file has all that a plan is made from, so it is read, planned, and must come out as it is. A new family is written
//! with its layers in any way, and `IMGFORGE_WRITE_REFERENCE=1` puts them right.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

const RANKS: [(Rank, &str); 9] = [
    (Rank::Skeleton, "skeleton"),
    (Rank::SystemPackages, "system-packages"),
    (Rank::SystemGlue, "system-glue"),
    (Rank::Environment, "environment"),
    (Rank::CondaPackages, "conda-packages"),
    (Rank::Packages, "packages"),
    (Rank::Artifacts, "artifacts"),
    (Rank::Files, "files"),
    (Rank::Users, "users"),
];

/// What a plan is made from.
struct Family {
    /// The lines that say what the family is.
    head: Vec<String>,
    limits: Limits,
    items: Vec<Item>,
    images: Vec<ImageItems>,
}

impl Family {
    /// Reads `limits`, `image` and `layer` lines, and below each layer its items: identity, which starts with the name,
    /// and bytes.
    fn parse(text: &str) -> Self {
        let mut family = Self {
            head: text.lines().take_while(|line| line.starts_with('#')).map(str::to_owned).collect(),
            limits: Limits { layers: 0, bytes: 0 },
            items: Vec::new(),
            images: Vec::new(),
        };
        let mut layers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut image_layers: Vec<Vec<usize>> = Vec::new();
        let mut layer = (0, Rank::Packages, PRIORITY);
        for line in text.lines().skip(family.head.len()).filter(|line| !line.is_empty()) {
            if let Some(item) = line.strip_prefix("    ") {
                let (identity, size) = item.trim_end().rsplit_once(' ').unwrap();
                let identity = identity.trim_end().to_owned();
                let size = (size != "?").then(|| size.replace('_', "").parse().unwrap());
                layers.entry(layer.0).or_default().push(family.items.len());
                let name = identity.split(' ').next().unwrap().to_owned();
                family.items.push(Item { identity, name, rank: layer.1, size, priority: layer.2 });
                continue;
            }
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["limits", layers, "layers", bytes, "bytes"] => {
                    let bytes = bytes.replace('_', "").parse().unwrap();
                    family.limits = Limits { layers: layers.parse().unwrap(), bytes };
                }
                ["image", name, "above", below, "has", numbers @ ..] => {
                    let below = below.parse().unwrap();
                    family.images.push(ImageItems { name: (*name).to_owned(), items: Vec::new(), below });
                    image_layers.push(numbers.iter().flat_map(|range| numbers_of(range)).collect());
                }
                ["layer", number, rank, rest @ ..] => {
                    let rank = RANKS.iter().find(|(_, name)| name == rank).unwrap().0;
                    let priority = match rest {
                        ["priority", priority, ..] => priority.parse().unwrap(),
                        _ => PRIORITY,
                    };
                    layer = (number.parse().unwrap(), rank, priority);
                }
                _ => panic!("{line:?}"),
            }
        }
        for (image, numbers) in family.images.iter_mut().zip(image_layers) {
            image.items = numbers.iter().flat_map(|number| layers[number].clone()).collect();
        }
        family
    }

    fn text(&self, plan: &Plan) -> String {
        let mut text = self.head.join("\n");
        text.push_str(&format!(
            "\n\nlimits {} layers {} bytes\n\n",
            self.limits.layers,
            grouped(self.limits.bytes)
        ));
        for (image, layers) in self.images.iter().zip(&plan.images) {
            text.push_str(&format!("image {} above {} has {}\n", image.name, image.below, ranges(layers)));
        }
        for (number, members) in plan.layers.iter().enumerate() {
            let members: Vec<&Item> = members.iter().map(|&index| &self.items[index]).collect();
            let first = members[0];
            let rank = RANKS.iter().find(|(rank, _)| *rank == first.rank).unwrap().1;
            let priority = match first.priority {
                PRIORITY => String::new(),
                other => format!(" priority {other}"),
            };
            let users = plan.images.iter().filter(|layers| layers.contains(&number)).count();
            let bytes = grouped(members.iter().filter_map(|item| item.size).sum());
            let count = members.len();
            text.push_str(&format!(
                "\nlayer {number} {rank}{priority} ({count} of {bytes} bytes, in {users})\n"
            ));
            for item in members {
                let size = item.size.map_or_else(|| "?".to_owned(), grouped);
                text.push_str(&format!("    {:<56} {size:>15}\n", item.identity));
            }
        }
        text
    }
}

/// `1_234_567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
    groups.join("_")
}

/// `0 2-5 7`, of ascending numbers.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[usize]| match run {
        [only] => only.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    };
    runs.map(run).collect::<Vec<_>>().join(" ")
}

fn numbers_of(range: &str) -> std::ops::RangeInclusive<usize> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    first.parse().unwrap()..=last.parse().unwrap()
}

#[track_caller]
fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan/golden").join(name).with_extension("txt");
    let written = fs_err::read_to_string(&path).unwrap();
    let family = Family::parse(&written);
    let text = family.text(&plan(&family.items, &family.images, family.limits).unwrap());
    if std::env::var_os("IMGFORGE_WRITE_REFERENCE").is_some() {
        fs_err::write(&path, &text).unwrap();
    } else if text != written {
        let difference = written.lines().zip(text.lines()).find(|(a, b)| a != b);
        panic!(
            "the plan of {name} is another, first here: {difference:?}; IMGFORGE_WRITE_REFERENCE=1 writes it"
        );
    }
}

/// examples/stacks: three stacks, each on the one before, with three images each.
#[test]
fn stacks() {
    check("stacks");
}

/// Two CUDAs and three Pythons, for development and for production.
#[test]
fn cuda_python() {
    check("cuda-python");
}

/// An artifact above the cap is in parts.
#[test]
fn oversize() {
    check("oversize");
}

/// A base with many layers leaves few.
#[test]
fn tight_budget() {
    check("tight-budget");
}

/// A lock of conda-lock, which has no sizes.
#[test]
fn no_sizes() {
    check("no-sizes");
}
