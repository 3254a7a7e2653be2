//! What a build came to, image by image: how large, what is new, what was there, what was fetched, and how long it took.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imgforge::project::Finished;
use imgforge_oci::Digest;
use serde_json::json;

use super::format;
use super::session::Session;

/// The figures of a build.
pub(crate) struct Report {
    /// One for each image and platform, in the order of the images.
    pub(crate) images: Vec<(String, Figures)>,
    /// Each layer counted once.
    pub(crate) together: Figures,
    /// From the start of the command.
    pub(crate) elapsed: Duration,
}

/// What an image came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// Layers that were made, or came from a cache or from where a base is.
    pub(crate) new: Count,
    /// Layers that were there.
    pub(crate) reused: Count,
    /// Bytes that were brought into the store to make it: from the network, from a vendor folder, from where a base is.
    pub(crate) fetched: u64,
    /// What making the new layers took. Layers are made at the same time, so the sum may be longer than the build.
    pub(crate) making: Duration,
}

/// Layers, and their bytes, compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) layers: usize,
    pub(crate) bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.layers += 1;
        self.bytes += bytes;
    }
}

/// What the figures need to know of a layer.
struct Layer {
    size: u64,
    is_new: bool,
    /// Whose bytes it needed: its own, where it was taken, or those of what it was made from.
    inputs: Vec<Digest>,
    making: Duration,
}

impl Report {
    pub(crate) fn new(session: &Session, finished: &[Finished], elapsed: Duration) -> Self {
        let has_platforms = session.project.platforms().len() > 1;
        let mut all: BTreeMap<Digest, Layer> = BTreeMap::new();
        let mut images = Vec::new();
        for image in finished {
            let layers = layers(session, image);
            let platform = if has_platforms { format!(" {}", image.platform) } else { String::new() };
            let figures = figures(layers.values(), &|digest| session.progress.fetched(digest));
            images.push((format!("{}{platform}", session.project.reference(&image.name)), figures));
            all.extend(layers);
        }
        let mut together = figures(all.values(), &|_| 0);
        // Packages that artifacts were built from are in no layer.
        together.fetched = session.progress.fetched_bytes();
        Self { images, together, elapsed }
    }

    /// The figures as a table, with names in so many columns at most.
    pub(crate) fn table(&self) -> String {
        let head =
            ["image", "size", "layers", "new", "", "reused", "", "fetched", "making"].map(str::to_owned);
        let mut rows = vec![head];
        rows.extend(self.images.iter().map(|(name, figures)| figures.row(name)));
        if self.images.len() > 1 {
            rows.push(self.together.row("all, each layer once"));
        }
        let mut widths = [0; 9];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (number, (cell, width)) in row.iter().zip(widths).enumerate() {
                match number {
                    0 => line.push_str(&format!("{cell:<width$}")),
                    // A count and its bytes belong together.
                    4 | 6 => line.push_str(&format!("  {cell:>width$}")),
                    _ => line.push_str(&format!("   {cell:>width$}")),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push_str(&format!("done in {}", format::duration(self.elapsed)));
        text
    }

    /// The same figures for programs.
    pub(crate) fn totals(&self) -> serde_json::Value {
        let mut totals = self.together.json();
        if let Some(totals) = totals.as_object_mut() {
            totals.insert("images".to_owned(), self.images.len().into());
            totals.insert("elapsed_seconds".to_owned(), self.elapsed.as_secs_f64().into());
        }
        totals
    }
}

impl Figures {
    /// Bytes of all layers, compressed.
    fn size(&self) -> u64 {
        self.new.bytes + self.reused.bytes
    }

    fn layers(&self) -> usize {
        self.new.layers + self.reused.layers
    }

    fn row(&self, name: &str) -> [String; 9] {
        let bytes = |count: u64| if count > 0 { format::bytes(count) } else { "-".to_owned() };
        let making = if self.making.is_zero() { "-".to_owned() } else { format::duration(self.making) };
        [
            name.to_owned(),
            format::bytes(self.size()),
            self.layers().to_string(),
            self.new.layers.to_string(),
            bytes(self.new.bytes),
            self.reused.layers.to_string(),
            bytes(self.reused.bytes),
            bytes(self.fetched),
            making,
        ]
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "size": self.size(),
            "layers": self.layers(),
            "new": {"layers": self.new.layers, "bytes": self.new.bytes},
            "reused": {"layers": self.reused.layers, "bytes": self.reused.bytes},
            "fetched_bytes": self.fetched,
            "making_seconds": self.making.as_secs_f64(),
        })
    }
}

/// The layers of an image, by digest.
fn layers(session: &Session, image: &Finished) -> BTreeMap<Digest, Layer> {
    let below = image.base.iter().flat_map(|base| base.layers()).map(|layer| {
        let is_new = session.progress.fetched(&layer.digest) > 0;
        (layer.digest, Layer { size: layer.size, is_new, inputs: vec![layer.digest], making: Duration::ZERO })
    });
    let own = image.layers.iter().map(|(spec, made)| {
        let inputs = match made.made_in {
            Some(_) => spec
                .units
                .iter()
                .flat_map(|unit| unit.inputs())
                .filter_map(|input| Digest::from_hex(&input.sha256).ok())
                .collect(),
            None => vec![made.record.digest],
        };
        let layer = Layer {
            size: made.record.size,
            is_new: made.made_in.is_some() || made.is_taken,
            inputs,
            making: made.made_in.unwrap_or_default(),
        };
        (made.record.digest, layer)
    });
    below.chain(own).collect()
}

fn figures<'l>(layers: impl Iterator<Item = &'l Layer>, fetched: &dyn Fn(&Digest) -> u64) -> Figures {
    let mut figures = Figures::default();
    let mut inputs = BTreeSet::new();
    for layer in layers {
        let count = if layer.is_new { &mut figures.new } else { &mut figures.reused };
        count.add(layer.size);
        figures.making += layer.making;
        inputs.extend(layer.inputs.iter().filter(|_| layer.is_new));
    }
    figures.fetched = inputs.into_iter().map(fetched).sum();
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(size: u64, is_new: bool, input: &str) -> Layer {
        Layer {
            size,
            is_new,
            inputs: vec![Digest::of(input.as_bytes())],
            making: Duration::from_millis(size / 1000),
        }
    }

    /// What two new layers were made of is counted once, and what a layer was made of that was there is not.
    #[test]
    fn what_is_new_and_what_was_there() {
        let layers = [
            layer(5000, true, "a"),
            layer(6000, true, "a"),
            Layer { making: Duration::ZERO, ..layer(7000, false, "b") },
        ];
        let found = figures(layers.iter(), &|_| 100);
        assert_eq!(found.new, Count { layers: 2, bytes: 11_000 });
        assert_eq!(found.reused, Count { layers: 1, bytes: 7000 });
        assert_eq!((found.fetched, found.making), (100, Duration::from_millis(11)));
    }

    #[test]
    fn a_table_of_a_family() {
        let figures = |new, reused, fetched, millis| Figures {
            new: Count { layers: new, bytes: new as u64 * 1_500_000 },
            reused: Count { layers: reused, bytes: reused as u64 * 2_000_000_000 },
            fetched,
            making: Duration::from_millis(millis),
        };
        let report = Report {
            images: vec![
                ("runtime:latest".to_owned(), figures(3, 0, 4_000_000, 1234)),
                ("devel:cu130-py311".to_owned(), figures(0, 12, 0, 0)),
            ],
            together: figures(3, 12, 4_000_000, 1234),
            elapsed: Duration::from_millis(2345),
        };
        let expected = "\
image                     size   layers   new           reused            fetched   making
runtime:latest          4.5 MB        3     3  4.5 MB        0        -    4.0 MB    1.2 s
devel:cu130-py311      24.0 GB       12     0       -       12  24.0 GB         -        -
all, each layer once   24.0 GB       15     3  4.5 MB       12  24.0 GB    4.0 MB    1.2 s
done in 2.3 s";
        assert_eq!(report.table(), expected);
    }
}
