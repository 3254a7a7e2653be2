//! The work that no converter of wheels can avoid, as a yardstick for the benchmark in `benches/torch`.
//!
//! `limit WHEEL…` inflates every entry once and hashes both byte streams, on all cores, and writes nothing. It is as
//! quick as simple means allow: files are mapped, libdeflate inflates them whole, the largest come first so that all
//! cores end together, and memory is no concern. It prints the seconds that it took.

#![allow(unsafe_code)]

use std::error::Error;
use std::fs::File;
use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use libdeflate_sys as sys;
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive};

/// An entry of a wheel.
struct Entry<'a> {
    name: String,
    data: &'a [u8],
    /// Bytes, inflated; `None` for a stored entry.
    inflated: Option<usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let paths: Vec<String> = std::env::args().skip(1).collect();
    // SAFETY: nobody writes to the wheels while they are read; a benchmark may rely on that.
    let maps: Vec<Mmap> =
        paths.iter().map(|path| unsafe { Mmap::map(&File::open(path)?) }).collect::<Result<_, _>>()?;
    let mut entries = Vec::new();
    for map in &maps {
        let mut archive = ZipArchive::new(Cursor::new(&map[..]))?;
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index)?;
            let begin = entry.data_start().ok_or("an entry has no data")? as usize;
            let end = begin + entry.compressed_size() as usize;
            let data = map.get(begin..end).ok_or("an entry lies outside its wheel")?;
            let inflated = match entry.compression() {
                CompressionMethod::Stored => None,
                _ => Some(usize::try_from(entry.size())?),
            };
            entries.push(Entry { name: entry.name()?.into_owned(), data, inflated });
        }
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.inflated.unwrap_or(entry.data.len())));

    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism()?.get();
    let hashed: Result<usize, String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&entries, &next))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(Err("a thread panicked".to_owned()))).sum()
    });
    eprintln!("{} wheels, {} entries, {} MB hashed", paths.len(), entries.len(), hashed? / 1_000_000);
    println!("{:.2}", start.elapsed().as_secs_f64());
    Ok(())
}

/// Takes entries until there are none, and returns how many bytes were hashed.
fn work(entries: &[Entry<'_>], next: &AtomicUsize) -> Result<usize, String> {
    // SAFETY: takes nothing, returns a valid pointer or null. It is never freed: the process is about to end.
    let inflater = unsafe { sys::libdeflate_alloc_decompressor() };
    if inflater.is_null() {
        return Err("no memory for an inflater".to_owned());
    }
    let mut buffer = Vec::new();
    let mut hashed = 0;
    while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
        let plain = match entry.inflated {
            None => entry.data,
            Some(len) => {
                if buffer.len() < len {
                    buffer.resize(len, 0);
                }
                // SAFETY: both pointers are valid for the lengths given; a null result means that exactly `len` bytes
                // are expected.
                let result = unsafe {
                    sys::libdeflate_deflate_decompress(
                        inflater,
                        entry.data.as_ptr().cast(),
                        entry.data.len(),
                        buffer.as_mut_ptr().cast(),
                        len,
                        std::ptr::null_mut(),
                    )
                };
                if result != sys::libdeflate_result_LIBDEFLATE_SUCCESS {
                    return Err(format!("{} can't be inflated", entry.name));
                }
                buffer.get(..len).unwrap_or(&buffer)
            }
        };
        std::hint::black_box((Sha256::digest(entry.data), Sha256::digest(plain)));
        hashed += entry.data.len() + plain.len();
    }
    Ok(hashed)
}
