//! Progress on stderr: lines that come and go on a terminal, plain lines that stay elsewhere.

mod screen;

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use imgforge::fetch::Event;
use imgforge::workshop;
use imgforge_oci::Digest;

use super::format;
use screen::Screen;

/// Shows what happens, and counts what is fetched.
pub(crate) struct Progress {
    quiet: bool,
    screen: Option<Mutex<Screen>>,
    /// When each layer was begun, by its key.
    begun: Mutex<HashMap<String, Instant>>,
    /// Bytes that were brought into the store, by the digest of what they belong to.
    fetched: Mutex<HashMap<Digest, u64>>,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let has_screen = !quiet && !dumb && std::io::stderr().is_terminal();
        let screen = has_screen.then(|| Mutex::new(Screen::new()));
        Self { quiet, screen, begun: Mutex::default(), fetched: Mutex::default() }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        let text = &format::plain(text);
        match &self.screen {
            Some(screen) => lock(screen).line(text),
            // Nothing is left to do when nobody reads it.
            None => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }

    /// A line that stays where nothing else tells of it: on a terminal, the line of what is in flight does.
    fn remark(&self, text: impl FnOnce() -> String) {
        if self.screen.is_none() {
            self.line(&text());
        }
    }

    /// Takes the lines away that are not to stay.
    pub(crate) fn clear(&self) {
        self.on_screen(Screen::clear);
    }

    /// Shows that an output is being written.
    pub(crate) fn begin_writing(&self, path: &Path) {
        let what = format!("writing {}", path.display());
        self.on_screen(|screen| screen.begin(what.clone(), "", &format::plain(&what), None, 0));
    }

    /// It is written.
    pub(crate) fn finish_writing(&self, path: &Path) {
        self.on_screen(|screen| screen.finish(&format!("writing {}", path.display())));
    }

    /// Bytes of a blob that were fetched so far.
    pub(crate) fn fetched(&self, digest: &Digest) -> u64 {
        lock(&self.fetched).get(digest).copied().unwrap_or_default()
    }

    /// Bytes that were fetched so far.
    pub(crate) fn fetched_bytes(&self) -> u64 {
        lock(&self.fetched).values().sum()
    }

    /// Shows an event.
    pub(crate) fn show(&self, event: &workshop::Progress<'_>) {
        use workshop::Progress as Workshop;
        match event {
            Workshop::Images(images) => self.on_screen(|screen| screen.images(images)),
            Workshop::Planned { layers, bytes } => {
                let size =
                    if *bytes > 0 { format!(" from {}", format::bytes(*bytes)) } else { String::new() };
                self.line(&format!("{layers} layers to make{size}"));
                self.on_screen(Screen::begin_images);
            }
            Workshop::Known(spec, record) => self.on_screen(|screen| screen.complete(spec, record.size)),
            Workshop::Fetch(request, event) => {
                if let Event::Bytes(count) = event {
                    self.add(request.digest, *count);
                }
                self.fetch(&request.title, request.size, event);
            }
            Workshop::Making(spec) => {
                lock(&self.begun).insert(spec.key.clone(), Instant::now());
                self.on_screen(|screen| screen.making(spec));
            }
            Workshop::Written(spec, bytes) => self.on_screen(|screen| screen.count(&spec.key, *bytes)),
            Workshop::Made(spec, record) => {
                self.on_screen(|screen| screen.complete(spec, record.size));
                let took =
                    lock(&self.begun).remove(&spec.key).map(|begun| begun.elapsed()).unwrap_or_default();
                let rate = record.tar_size as f64 / took.as_secs_f64().max(0.001);
                let rate = match took.as_millis() {
                    0..500 => String::new(),
                    _ => format!(", {}/s", format::bytes(rate as u64)),
                };
                self.remark(|| {
                    let (size, took) = (format::bytes(record.size), format::duration(took));
                    format!("made {} ({size}, {took}{rate})", spec.title())
                });
            }
            Workshop::Transfer { title, digest, size, event } => {
                if let imgforge_registry::Event::Bytes(count) = event {
                    self.add(*digest, *count);
                }
                self.transfer(title, *size, event);
            }
            Workshop::Taking(spec, record, event) => {
                if let imgforge_registry::Event::Bytes(count) = event {
                    self.add(record.digest, *count);
                }
                self.sending(&spec.title(), record.size, event);
            }
            Workshop::Taken(spec, record) => {
                let title = spec.title();
                self.finish(&title);
                self.on_screen(|screen| screen.complete(spec, record.size));
                self.remark(|| format!("took {title} from the cache ({})", format::bytes(record.size)));
            }
            Workshop::Found(spec, record) => {
                self.on_screen(|screen| screen.complete(spec, record.size));
                self.remark(|| {
                    format!("found {} in the cache ({})", spec.title(), format::bytes(record.size))
                });
            }
            Workshop::Building(line) => self.line(&format!("building {line}")),
            Workshop::TakenArtifact(receipt) => {
                self.finish(&receipt.line);
                self.line(&format!(
                    "took {} from the cache ({})",
                    receipt.line,
                    format::bytes(receipt.result.size)
                ));
            }
            Workshop::BuildLine(artifact, text) => {
                let text = String::from_utf8_lossy(text);
                self.line(&format!("{artifact} | {}", text.trim_end()));
            }
            Workshop::Built(line, receipt) => self.line(&format!(
                "built {line} ({}, {})",
                format::bytes(receipt.result.size),
                format::duration(Duration::from_millis(receipt.duration))
            )),
            Workshop::CacheTrouble(error) => {
                let mut text = format!("note: {error}");
                let mut source = std::error::Error::source(error);
                while let Some(cause) = source {
                    text.push_str(&format!(": {cause}"));
                    source = cause.source();
                }
                self.line(&text);
            }
            Workshop::Waiting(spec, process) => {
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
            // Elsewhere than on a terminal, that it begins says nothing that its end does not.
            imgforge_registry::Event::Started { have } => {
                self.on_screen(|screen| screen.begin(title.to_owned(), "", title, Some(size), *have));
            }
            event => self.transfer(title, size, event),
        }
    }

    /// A transfer is over.
    pub(crate) fn finish(&self, title: &str) {
        self.on_screen(|screen| screen.finish(title));
    }

    fn begin(&self, title: &str, size: Option<u64>, have: u64) {
        self.on_screen(|screen| screen.begin(title.to_owned(), "fetching", title, size, have));
        self.remark(|| {
            let size = size.map_or_else(String::new, |size| format!(" ({})", format::bytes(size)));
            format!("fetching {title}{size}")
        });
    }

    fn count(&self, title: &str, bytes: u64) {
        self.on_screen(|screen| {
            screen.count(title, bytes);
            screen.transfer(bytes);
        });
    }

    fn back_to(&self, title: &str, position: u64) {
        self.on_screen(|screen| screen.back_to(title, position));
    }

    fn add(&self, digest: Digest, bytes: u64) {
        *lock(&self.fetched).entry(digest).or_default() += bytes;
    }

    fn on_screen(&self, show: impl FnOnce(&mut Screen)) {
        if let Some(screen) = &self.screen {
            show(&mut lock(screen));
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
