//! Progress on stderr: bars on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use imgforge::fetch::Event;
use imgforge::workshop;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::format;

/// Shows what happens.
pub(crate) struct Progress {
    quiet: bool,
    bars: Option<Bars>,
    /// When each layer was begun, by its key.
    begun: Mutex<HashMap<String, Instant>>,
}

struct Bars {
    all: MultiProgress,
    fetching: Mutex<HashMap<String, ProgressBar>>,
    making: Mutex<HashMap<String, ProgressBar>>,
    /// All bytes of all downloads.
    total: Mutex<Option<ProgressBar>>,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let bars = (!quiet && !dumb && std::io::stderr().is_terminal()).then(|| Bars {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
            fetching: Mutex::default(),
            making: Mutex::default(),
            total: Mutex::default(),
        });
        Self { quiet, bars, begun: Mutex::default() }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        let text = &format::plain(text);
        match &self.bars {
            // Nothing is left to do when the terminal is gone.
            Some(bars) => {
                let _ = bars.all.println(text);
            }
            None => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        if let Some(bars) = &self.bars {
            let _ = bars.all.clear();
            *lock(&bars.total) = None;
        }
    }

    /// Shows an event.
    pub(crate) fn show(&self, event: &workshop::Progress<'_>) {
        match event {
            workshop::Progress::Planned { layers, bytes } => {
                let size =
                    if *bytes > 0 { format!(" from {}", format::bytes(*bytes)) } else { String::new() };
                self.line(&format!("{layers} layers to make{size}"));
            }
            workshop::Progress::Fetch(request, event) => self.fetch(&request.title, request.size, event),
            workshop::Progress::Making(spec) => {
                lock(&self.begun).insert(spec.key.clone(), Instant::now());
                if let Some(bars) = &self.bars {
                    let bar = bars
                        .all
                        .add(ProgressBar::new_spinner().with_style(style("{spinner} {wide_msg} {elapsed}")));
                    bar.set_message(format!("making {}", spec.title()));
                    bar.enable_steady_tick(Duration::from_millis(200));
                    lock(&bars.making).insert(spec.key.clone(), bar);
                }
            }
            workshop::Progress::Made(spec, record) => {
                if let Some(bar) = self.bars.as_ref().and_then(|bars| lock(&bars.making).remove(&spec.key)) {
                    bar.finish_and_clear();
                }
                let took =
                    lock(&self.begun).remove(&spec.key).map(|begun| begun.elapsed()).unwrap_or_default();
                let rate = record.tar_size as f64 / took.as_secs_f64().max(0.001);
                let rate = match took.as_millis() {
                    0..500 => String::new(),
                    _ => format!(", {}/s", format::bytes(rate as u64)),
                };
                self.line(&format!(
                    "made {} ({}, {}{rate})",
                    spec.title(),
                    format::bytes(record.size),
                    format::duration(took)
                ));
            }
            workshop::Progress::Transfer { title, size, event } => self.transfer(title, *size, event),
            workshop::Progress::Taking(spec, record, event) => {
                self.sending(&spec.title(), record.size, event)
            }
            workshop::Progress::Taken(spec, record) => {
                let title = spec.title();
                self.finish(&title);
                self.line(&format!("took {title} from the cache ({})", format::bytes(record.size)));
            }
            workshop::Progress::Found(spec, record) => {
                self.line(&format!("found {} in the cache ({})", spec.title(), format::bytes(record.size)));
            }
            workshop::Progress::Building(line) => self.line(&format!("building {line}")),
            workshop::Progress::TakenArtifact(receipt) => {
                self.finish(&receipt.line);
                self.line(&format!(
                    "took {} from the cache ({})",
                    receipt.line,
                    format::bytes(receipt.result.size)
                ));
            }
            workshop::Progress::BuildLine(artifact, text) => {
                let text = String::from_utf8_lossy(text);
                self.line(&format!("{artifact} | {}", text.trim_end()));
            }
            workshop::Progress::Built(line, receipt) => self.line(&format!(
                "built {line} ({}, {})",
                format::bytes(receipt.result.size),
                format::duration(Duration::from_millis(receipt.duration))
            )),
            workshop::Progress::CacheTrouble(error) => {
                let mut text = format!("note: {error}");
                let mut source = std::error::Error::source(error);
                while let Some(cause) = source {
                    text.push_str(&format!(": {cause}"));
                    source = cause.source();
                }
                self.line(&text);
            }
            workshop::Progress::Waiting(spec, process) => {
                let who = process.map_or_else(String::new, |process| format!(" (process {process})"));
                self.line(&format!("waiting for another imgforge{who} to make {}", spec.title()));
            }
        }
    }

    /// Shows what happens to a blob on its way to or from a registry.
    pub(crate) fn transfer(&self, title: &str, size: u64, event: &imgforge_registry::Event<'_>) {
        use imgforge_registry::Event as Blob;
        match event {
            Blob::Waiting => self.line(&format!("waiting for another imgforge to fetch {title}")),
            Blob::Retry { wait, reason } => {
                self.line(&format!("{title}: {reason}; again in {}", format::duration(*wait)));
            }
            Blob::Started { have } => self.begin(title, Some(size), *have),
            Blob::Bytes(count) => self.count(title, *count),
            Blob::Restarted { at } => self.back_to(title, *at),
        }
    }

    /// Shows what happens to a blob that has a line of its own at the end.
    pub(crate) fn sending(&self, title: &str, size: u64, event: &imgforge_registry::Event<'_>) {
        match event {
            // That it begins says nothing that its end does not.
            imgforge_registry::Event::Started { .. } if self.bars.is_none() => {}
            event => self.transfer(title, size, event),
        }
    }

    /// A transfer is over.
    pub(crate) fn finish(&self, title: &str) {
        if let Some(bar) = self.bars.as_ref().and_then(|bars| lock(&bars.fetching).remove(title)) {
            bar.finish_and_clear();
        }
    }

    fn begin(&self, title: &str, size: Option<u64>, have: u64) {
        let Some(bars) = &self.bars else {
            let size = size.map_or_else(String::new, |size| format!(" ({})", format::bytes(size)));
            self.line(&format!("fetching {title}{size}"));
            return;
        };
        let line = "  {msg:30!} {wide_bar} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12}";
        let bar = bars.all.add(ProgressBar::new(size.unwrap_or(0)).with_style(style(line)));
        bar.set_message(title.to_owned());
        bar.set_position(have);
        lock(&bars.fetching).insert(title.to_owned(), bar);
    }

    fn count(&self, title: &str, bytes: u64) {
        let Some(bars) = &self.bars else { return };
        if let Some(bar) = lock(&bars.fetching).get(title) {
            bar.inc(bytes);
        }
        let mut total = lock(&bars.total);
        let total = total.get_or_insert_with(|| {
            let style = style("transferred {bytes} {bytes_per_sec}");
            bars.all.insert(0, ProgressBar::no_length().with_style(style))
        });
        total.inc(bytes);
    }

    fn back_to(&self, title: &str, position: u64) {
        if let Some(bar) = self.bars.as_ref().and_then(|bars| lock(&bars.fetching).get(title).cloned()) {
            bar.set_position(position);
        }
    }

    fn fetch(&self, title: &str, size: Option<u64>, event: &Event<'_>) {
        match event {
            Event::Waiting => self.line(&format!("waiting for another imgforge to fetch {title}")),
            Event::Retry { wait, reason } => {
                self.line(&format!("fetching {title}: {reason}; again in {}", format::duration(*wait)));
            }
            Event::Rejected(attempt) => {
                self.line(&format!("fetching {title}: {}: {}", attempt.source, attempt.reason));
            }
            Event::Started { have } => self.begin(title, size, *have),
            Event::Bytes(count) => self.count(title, *count),
            Event::Restarted => self.back_to(title, 0),
            Event::Finished => self.finish(title),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
