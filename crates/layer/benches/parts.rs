//! What the parts of a layer cost, each by itself: hashing, inflating, the encoder of the glue, and the writer.
//!
//! Throughput is in bytes of tar stream or of plain content. These numbers are to be read beside each other, on one
//! machine; nothing is asserted about time.

#![allow(missing_docs, clippy::unwrap_used)]

// The parts are private to the library, and a benchmark is a crate of its own: it takes their files.
#[allow(dead_code)]
#[path = "../src/deflate.rs"]
mod deflate;
#[allow(dead_code)]
#[path = "../src/inflate.rs"]
mod inflate;
#[allow(dead_code)]
#[path = "../src/pair.rs"]
mod pair;

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use imgforge_layer::{Codec, Content, Entry, Source, Tree, TreePath, write_layer};
use imgforge_oci::Digest;

/// Bytes that compress about as well as a shared object: words of a small vocabulary among noise.
fn plain(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
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

fn deflated(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// One state, two states one after the other, two states side by side.
fn sha256(c: &mut Criterion) {
    let bytes = plain(1 << 20);
    let (blocks, _) = bytes.as_chunks::<64>();
    let mut group = c.benchmark_group("sha256");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("single", |b| {
        let mut state = [1; 8];
        b.iter(|| sha2::block_api::compress256(&mut state, black_box(blocks)));
    });
    group.bench_function("twice", |b| {
        let mut states = [[1; 8], [2; 8]];
        b.iter(|| {
            states.iter_mut().for_each(|state| sha2::block_api::compress256(state, black_box(blocks)));
        });
    });
    group.bench_function("pair", |b| {
        let (mut first, mut second) = ([1; 8], [2; 8]);
        b.iter(|| pair::compress_pair(&mut first, &mut second, black_box(blocks)));
    });
    group.finish();
}

/// libdeflate with the whole file in memory, fdeflate in the pieces that the writer gives it.
fn inflating(c: &mut Criterion) {
    const PIECE: usize = 256 << 10;
    let mut group = c.benchmark_group("inflate");
    for len in [4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20] {
        let stream = deflated(&plain(len));
        group.throughput(Throughput::Bytes(len as u64)).sample_size(10);
        group.bench_with_input(BenchmarkId::new("whole", len), &stream, |b, stream| {
            let mut inflater = inflate::WholeInflater::new().unwrap();
            b.iter(|| inflater.inflate(black_box(stream), len).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("stream", len), &stream, |b, stream| {
            b.iter(|| {
                let mut inflater = inflate::StreamInflater::new(len as u64, PIECE);
                let mut emit = |bytes: Vec<u8>| {
                    black_box(bytes);
                    Ok::<(), inflate::InflateError>(())
                };
                for read in black_box(stream).chunks(PIECE) {
                    inflater.push(read, &mut emit).unwrap();
                }
                inflater.finish(&mut emit).unwrap();
            });
        });
    }
    group.finish();
}

/// The encoder of the project's own against zlib's levels, on what it is for: the tar headers between two files.
fn glue(c: &mut Criterion) {
    let headers: Vec<Vec<u8>> = (0..200)
        .map(|number| {
            let mut header = tar::Header::new_ustar();
            let path = format!("opt/venv/lib/python3.11/site-packages/package/module_{number}/part.py");
            header.set_path(path).unwrap();
            header.set_mode(0o644);
            header.set_size(number * 977);
            header.set_mtime(0);
            header.set_cksum();
            // The file before ends in padding.
            let mut glue = vec![0; (number * 131 % 512) as usize];
            glue.extend_from_slice(header.as_bytes());
            glue
        })
        .collect();
    let plain: usize = headers.iter().map(Vec::len).sum();
    let own = |header: &[u8]| {
        let mut member = Vec::new();
        deflate::gzip_member(header, &mut member);
        member
    };
    let zlib = |header: &[u8], level| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(header).unwrap();
        encoder.finish().unwrap()
    };
    let report = |name: &str, sizes: usize| {
        println!("glue/{name}: {plain} bytes become {sizes}, {:.1} %", 100.0 * sizes as f64 / plain as f64);
    };
    report("own", headers.iter().map(|header| own(header).len()).sum());
    for level in [1, 6, 9] {
        report(
            &format!("zlib-rs level {level}"),
            headers.iter().map(|header| zlib(header, level).len()).sum(),
        );
    }
    let mut group = c.benchmark_group("glue");
    group.throughput(Throughput::Bytes(plain as u64));
    group.bench_function("own", |b| b.iter(|| headers.iter().for_each(|h| drop(black_box(own(h))))));
    group.bench_function("zlib-rs level 6", |b| {
        b.iter(|| headers.iter().for_each(|h| drop(black_box(zlib(h, 6)))));
    });
    group.finish();
}

/// A layer of a tree as a wheel gives it: many small modules, a few libraries, one that is inflated in pieces.
fn layer(c: &mut Criterion) {
    let sizes = (0..1500).map(|i| 500 + i * 37 % 20_000).chain([1 << 20, 6 << 20, 40 << 20]);
    let noise = plain(40 << 20);
    let mut archive = tempfile::tempfile().unwrap();
    let mut entries = Vec::new();
    let mut offset = 0;
    for (number, len) in sizes.enumerate() {
        let content = noise.get(number..).and_then(|from| from.get(..len)).unwrap_or(&noise);
        let stream = deflated(content);
        archive.write_all(&stream).unwrap();
        entries.push((offset, stream.len() as u64, content));
        offset += stream.len() as u64;
    }
    let source = Arc::new(Source::from_file(archive, "archive").unwrap());
    let mut tree = Tree::new();
    for (number, (offset, compressed_len, content)) in entries.into_iter().enumerate() {
        let path =
            format!("opt/venv/lib/python3.11/site-packages/package/part_{}/file_{number}", number % 40);
        let digest = Digest::of(content);
        let content = Content::Deflated {
            source: Arc::clone(&source),
            offset,
            compressed_len,
            len: content.len() as u64,
            crc32: crc32fast::hash(content),
        };
        tree.insert(TreePath::new(&path).unwrap(), Entry::file(content, Some(digest), false)).unwrap();
    }
    let mut group = c.benchmark_group("write_layer");
    group.throughput(Throughput::Bytes(tree.content_len())).sample_size(10);
    for codec in [Codec::GzipCopy, Codec::Zstd, Codec::None] {
        let written = write_layer(&tree, codec, 0, &mut std::io::sink()).unwrap();
        println!(
            "write_layer/{codec:?}: {} bytes of tar stream become {}, {:.1} %",
            written.tar_size,
            written.size,
            100.0 * written.size as f64 / written.tar_size as f64
        );
        group.bench_function(format!("{codec:?}"), |b| {
            b.iter(|| write_layer(&tree, codec, 0, &mut std::io::sink()).unwrap());
        });
    }
    group.finish();
}

criterion_group!(parts, sha256, inflating, glue, layer);
criterion_main!(parts);
