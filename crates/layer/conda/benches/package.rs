//! What planning and writing a large package costs, part by part: `.conda` and `.tar.bz2`, by bytes of content.
//!
//! The package is made here: shared objects and modules with noise between words of a small vocabulary, so that they
//! compress about as well as real ones; one file in fifty names the prefix. `LARGE=500 cargo bench` takes that many
//! megabytes in place of 50; the largest resident memory is printed at the end. Nothing is asserted about time.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/common/package.rs"]
#[allow(dead_code)]
mod package;

use std::io::Write as _;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use imgforge_layer::{Codec, Source, TreePath, write_layer};
use imgforge_layer_conda::{Installation, Planned, plan};
use package::{PLACEHOLDER, Package};

fn plain(len: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed << 17);
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        // Marsaglia's xorshift; the same bytes in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state.is_multiple_of(3) {
            bytes.extend_from_slice(&state.to_le_bytes());
        } else {
            let word = (state >> 32) % 512;
            bytes.extend_from_slice(&[0x48, 0x8b, word as u8, 0x24, (word >> 8) as u8, 0, 0, 0]);
        }
    }
    bytes.truncate(len);
    bytes
}

/// Files of 4 KiB to 16 MiB, as many bytes as asked for.
fn large(megabytes: usize) -> Package {
    let mut package = Package::new("large");
    let (mut left, mut number) = (megabytes << 20, 0);
    while left > 0 {
        let len = left.min([4 << 10, 16 << 10, 8 << 10, 300 << 10, 16 << 20, 64 << 10][number % 6]);
        let mut content = plain(len, number as u64);
        let path = format!("lib/folder-{}/file-{number}", number % 40);
        package = if number % 50 == 0 || number % 50 == 4 {
            content[..PLACEHOLDER.len()].copy_from_slice(PLACEHOLDER.as_bytes());
            package.binary(&path, content, 0o755)
        } else {
            package.file(&path, content, 0o644)
        };
        left -= len;
        number += 1;
    }
    package
}

/// As rattler-build compresses it; the tests' packages are made at the lowest level.
fn conda(package: &Package) -> Vec<u8> {
    let stem = package.stem();
    let zst = |members: &[package::Member]| zstd::encode_all(package::tar(members).as_slice(), 15).unwrap();
    package::conda(&[
        ("metadata.json", br#"{"conda_pkg_format_version": 2}"#.to_vec()),
        (&format!("info-{stem}.tar.zst"), zst(&package.info_members())),
        (&format!("pkg-{stem}.tar.zst"), zst(&package.members)),
    ])
}

fn planned(source: &Source, file_name: &str) -> Planned {
    let prefix = TreePath::new("/opt/conda").unwrap();
    let installation = Installation { prefix: &prefix, python: None };
    let package =
        imgforge_layer_conda::Package { file_name, record: None, url: None, sha256: None, md5: None };
    plan(source, &package, &installation, &std::env::temp_dir()).unwrap()
}

fn packages(c: &mut Criterion) {
    let megabytes = std::env::var("LARGE").map_or(50, |text| text.parse().unwrap());
    let sources = {
        let package = large(megabytes);
        let (bz2, bytes) = package.tar_bz2();
        [("large-1.0-h0_0.conda".to_owned(), conda(&package)), (bz2, bytes)].map(|(name, bytes)| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            (name.clone(), Source::from_file(file, name).unwrap())
        })
    };
    reset_peak();
    let mut group = c.benchmark_group("package");
    group.throughput(Throughput::Bytes((megabytes as u64) << 20)).sample_size(10);
    group.measurement_time(Duration::from_secs(10));
    for (name, source) in &sources {
        group.bench_function(format!("plan {name}"), |b| b.iter(|| planned(source, name)));
    }
    let (name, source) = &sources[0];
    let planned = planned(source, name);
    for codec in [Codec::None, Codec::Zstd] {
        group.bench_function(format!("write {codec:?}"), |b| {
            b.iter(|| write_layer(&planned.tree, codec, 0, &mut std::io::sink()).unwrap());
        });
    }
    group.finish();
    println!("resident at most: {}", peak());
}

/// Forgets how much memory was resident before.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned()
}

criterion_group!(benches, packages);
criterion_main!(benches);
