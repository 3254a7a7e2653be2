//! What a terminal shows while a family is made: a line for each image that lacks layers, one for each layer and download
//! in flight, and the sum of both below them. All of it is gone when the work is done.

use std::collections::HashMap;
use std::time::Duration;

use imgforge::unit::LayerSpec;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::format;

/// Lines for images at most; the others wait until one of these is complete.
const IMAGES: usize = 10;

/// Columns for names.
const NAME: usize = 34;

const CHARS: &str = "━╸─";

/// The lines.
pub(super) struct Screen {
    all: MultiProgress,
    images: Vec<ImageLine>,
    /// The images that lack a layer, by its key.
    lacking: HashMap<String, Vec<usize>>,
    /// Images that have no line yet, last first.
    waiting: Vec<usize>,
    /// How many wait.
    more: Option<ProgressBar>,
    /// Layers by key, transfers by title.
    in_flight: HashMap<String, ProgressBar>,
    /// Layers of all images that were not there.
    sum: Option<ProgressBar>,
    /// All bytes of all transfers.
    transferred: Option<ProgressBar>,
}

struct ImageLine {
    name: String,
    layers: u64,
    complete: u64,
    /// Bytes of its layers that are there.
    bytes: u64,
    bar: Option<ProgressBar>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
            images: Vec::new(),
            lacking: HashMap::new(),
            waiting: Vec::new(),
            more: None,
            in_flight: HashMap::new(),
            sum: None,
            transferred: None,
        }
    }

    /// A line that stays, above the others.
    pub(super) fn line(&self, text: &str) {
        // Nothing is left to do when the terminal is gone.
        let _ = self.all.println(text);
    }

    /// Takes all lines away.
    pub(super) fn clear(&mut self) {
        let own = self.images.iter_mut().filter_map(|image| image.bar.take());
        let others = self.in_flight.drain().map(|(_, bar)| bar);
        let bars =
            own.chain(others).chain(self.more.take()).chain(self.sum.take()).chain(self.transferred.take());
        for bar in bars.collect::<Vec<_>>() {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        self.images.clear();
        self.lacking.clear();
        self.waiting.clear();
        let _ = self.all.clear();
    }

    /// The images that are going to be made. Their lines come with the first layer that has to be made.
    pub(super) fn images(&mut self, images: &[(String, Vec<&LayerSpec>)]) {
        for (number, (name, layers)) in images.iter().enumerate() {
            for layer in layers {
                self.lacking.entry(layer.key.clone()).or_default().push(number);
            }
            let name = shortened(name, NAME);
            self.images.push(ImageLine {
                name,
                layers: layers.len() as u64,
                complete: 0,
                bytes: 0,
                bar: None,
            });
        }
    }

    /// So many layers have to be made.
    pub(super) fn begin_images(&mut self) {
        if self.sum.is_some() || self.images.is_empty() {
            return;
        }
        let lacks = |image: &ImageLine| image.complete < image.layers;
        self.waiting =
            (0..self.images.len()).rev().filter(|at| self.images.get(*at).is_some_and(lacks)).collect();
        let template = "{pos} of {len} new layers, {elapsed}";
        let sum = self.all.add(ProgressBar::new(self.lacking.len() as u64).with_style(style(template)));
        sum.enable_steady_tick(Duration::from_millis(200));
        self.sum = Some(sum);
        for _ in 0..IMAGES {
            self.next_image();
        }
    }

    /// Gives the next image that waits a line, unless it is complete by now.
    fn next_image(&mut self) {
        let next = loop {
            let Some(next) = self.waiting.pop() else { break None };
            if let Some(image) = self.images.get(next).filter(|image| image.complete < image.layers) {
                break Some((next, image));
            }
        };
        if let Some((next, image)) = next {
            let template = "{prefix:34} {wide_bar:.cyan/dim} {pos:>3}/{len:3} layers {msg:>10}";
            let bar =
                ProgressBar::new(image.layers).with_style(style(template)).with_prefix(image.name.clone());
            let place = self.images.iter().filter(|image| image.bar.is_some()).count();
            let bar = self.all.insert(place, bar);
            bar.set_message(format::bytes(image.bytes));
            bar.set_position(image.complete);
            if let Some(image) = self.images.get_mut(next) {
                image.bar = Some(bar);
            }
        }
        self.tell_waiting();
    }

    fn tell_waiting(&mut self) {
        let count = self.waiting.len();
        if count == 0 {
            if let Some(bar) = self.more.take() {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
            return;
        }
        let all = &self.all;
        let place = self.images.iter().filter(|image| image.bar.is_some()).count();
        let more = self
            .more
            .get_or_insert_with(|| all.insert(place, ProgressBar::no_length().with_style(style("{msg}"))));
        more.set_message(format!("and {count} images more"));
    }

    /// A layer is there.
    pub(super) fn complete(&mut self, spec: &LayerSpec, bytes: u64) {
        self.finish(&spec.key);
        let Some(users) = self.lacking.remove(&spec.key) else { return };
        if let Some(sum) = &self.sum {
            sum.inc(1);
        }
        for user in users {
            let Some(image) = self.images.get_mut(user) else { continue };
            image.complete += 1;
            image.bytes += bytes;
            let is_complete = image.complete >= image.layers;
            if let Some(bar) = &image.bar {
                bar.set_message(format::bytes(image.bytes));
                bar.set_position(image.complete);
            }
            // A line that is done makes room where others wait for it; else it stays, so that nothing jumps.
            if is_complete
                && !self.waiting.is_empty()
                && let Some(bar) = image.bar.take()
            {
                bar.finish_and_clear();
                self.all.remove(&bar);
                self.next_image();
            }
        }
    }

    /// A layer is being made. How long that takes is known where its size is.
    pub(super) fn making(&mut self, spec: &LayerSpec) {
        self.begin_images();
        let sizes: Option<Vec<u64>> = spec.units.iter().map(|unit| unit.item.size).collect();
        let size = sizes.map(|sizes| sizes.iter().sum::<u64>()).filter(|size| *size > 0);
        self.begin(spec.key.clone(), "making", &spec.title(), size, 0);
    }

    /// A transfer or a layer begins.
    pub(super) fn begin(&mut self, key: String, what: &str, title: &str, size: Option<u64>, have: u64) {
        let template = match size {
            Some(_) => {
                "  {prefix:32} {wide_bar:.green/dim} {decimal_bytes:>9} of {decimal_total_bytes:>9} {elapsed:>4}"
            }
            None => "  {prefix:32} {spinner} {decimal_bytes:>9} {elapsed:>4}",
        };
        // A bar that is changed before it is one of all draws itself where the others are.
        let bar = ProgressBar::new(size.unwrap_or(0))
            .with_style(style(template))
            .with_prefix(cut(format!("{what} {title}").trim_start(), NAME - 2))
            .with_position(have);
        let bar = match (&self.transferred, &self.sum) {
            (None, None) => self.all.add(bar),
            (None, Some(below)) | (Some(below), _) => self.all.insert_before(below, bar),
        };
        bar.enable_steady_tick(Duration::from_millis(200));
        if let Some(before) = self.in_flight.insert(key, bar) {
            before.finish_and_clear();
            self.all.remove(&before);
        }
    }

    /// So many bytes more of a transfer or a layer.
    pub(super) fn count(&self, key: &str, bytes: u64) {
        if let Some(bar) = self.in_flight.get(key) {
            bar.inc(bytes);
        }
    }

    /// So many bytes more came or went.
    pub(super) fn transfer(&mut self, bytes: u64) {
        let (all, sum) = (&self.all, &self.sum);
        let transferred = self.transferred.get_or_insert_with(|| {
            let template = "{decimal_bytes} transferred, {decimal_bytes_per_sec}";
            let bar = ProgressBar::no_length().with_style(style(template));
            match sum {
                Some(sum) => all.insert_before(sum, bar),
                None => all.add(bar),
            }
        });
        transferred.inc(bytes);
    }

    /// A transfer goes on from another place.
    pub(super) fn back_to(&self, key: &str, position: u64) {
        if let Some(bar) = self.in_flight.get(key) {
            bar.set_position(position);
        }
    }

    /// A transfer or a layer is over.
    pub(super) fn finish(&mut self, key: &str) {
        if let Some(bar) = self.in_flight.remove(key) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars(CHARS)
}

/// A title in so many columns: what matters is at its begin.
fn cut(title: &str, columns: usize) -> String {
    match title.chars().count() > columns {
        true => title.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
        false => title.to_owned(),
    }
}

/// A name in so many columns: what is left out is in its middle, since variants differ at both ends.
fn shortened(name: &str, columns: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= columns {
        return name.to_owned();
    }
    let kept = columns.saturating_sub(1);
    let (head, tail) = (kept / 3, kept - kept / 3);
    let first = letters.iter().take(head);
    let last = letters.iter().skip(letters.len() - tail);
    first.chain(['…'].iter()).chain(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_name_stay() {
        assert_eq!(shortened("runtime:latest", 20), "runtime:latest");
        assert_eq!(shortened("marimo-devel:cu130-py311-ray2.51.0", 16), "marim…-ray2.51.0");
        assert_eq!(shortened("äöüäöü", 4), "ä…öü");
        assert_eq!(cut("making binutils 2.40 and 19 more", 12), "making binu…");
    }
}
