//! What planning costs: families of 10, 100 and 1,000 images of 500 packages each.
//!
//! Nothing is asserted about time here; the README has what was measured.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use imgforge::plan::{ImageItems, Item, Limits, PRIORITY, Rank, plan};

const LIMITS: Limits = Limits { layers: 80, bytes: 4 << 30 };

/// A family of so many images: five stacks, five Pythons, four CUDAs and five teams, for development and production.
///
/// Of the 500 packages of an image, 200 are of the system, 200 follow from the Python alone, and the others from Python and
/// CUDA, from the stack, or from the team.
fn family(count: usize) -> (Vec<Item>, Vec<ImageItems>) {
    let mut items = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut images = Vec::new();
    for number in 0..count {
        let (is_devel, python) = (number % 2, number / 2 % 5);
        let (stack, cuda, team) = (number / 10 % 5, number / 50 % 4, number / 200);
        let package = |index: usize| match index {
            0..200 => (Rank::SystemPackages, String::new()),
            200..400 => (Rank::Packages, format!("py{python}")),
            400..430 => (Rank::Packages, format!("py{python} cu{cuda}")),
            430..470 => (Rank::Packages, format!("py{python} stack{stack}")),
            470..490 => (Rank::Packages, format!("py{python} devel{is_devel}")),
            _ => (Rank::Packages, format!("py{python} team{team}")),
        };
        let own = (0..500).map(|index| {
            let (rank, variant) = package(index);
            let identity = format!("package-{index} {variant}");
            *known.entry(identity.clone()).or_insert_with(|| {
                items.push(Item {
                    name: format!("package-{index}"),
                    identity,
                    rank,
                    size: size(index),
                    priority: PRIORITY,
                });
                items.len() - 1
            })
        });
        images.push(ImageItems { name: format!("image-{number}"), items: own.collect(), below: 0 });
    }
    (items, images)
}

/// From 10 kB to 600 MB, most of them small, as in an environment of PyTorch; some are not known.
fn size(index: usize) -> Option<u64> {
    let spread = (index * 7919) % 1000;
    (index % 25 != 3).then(|| (10_000.0 * (11.0 * (spread as f64 / 1000.0).powi(3)).exp()) as u64)
}

fn curve(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    group.sample_size(10);
    for count in [10, 100, 1000] {
        let (items, images) = family(count);
        let found = plan(&items, &images, LIMITS);
        let layers = found.as_ref().map_or(0, |plan| plan.layers.len());
        let most = found.iter().flat_map(|plan| &plan.images).map(Vec::len).max().unwrap_or_default();
        let uses: usize = images.iter().map(|image| image.items.len()).sum();
        println!(
            "{count} images: {uses} uses of {} packages in {layers} layers, {most} at most in an image",
            items.len()
        );
        group.throughput(Throughput::Elements(uses as u64));
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |b, _| {
            b.iter(|| plan(black_box(&items), black_box(&images), LIMITS));
        });
    }
    group.finish();
}

criterion_group!(benches, curve);
criterion_main!(benches);
