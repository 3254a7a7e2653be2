use std::sync::Mutex;
use std::time::Instant;

use imgforge::delivery::{self, Delivered, Request, Step};
use imgforge::push::{self, Count, Moved};
use serde_json::json;

use super::args::{Global, Push};
use super::format;
use super::outcome::{report_conflicts, report_offered};
use super::session::{Failure, Session, print, print_json};

pub(crate) fn run(global: &Global, args: Push) -> Result<(), Failure> {
    let start = Instant::now();
    let session = Session::open(global, &args.images.file())?;
    let mut session = session.with_cache(args.cache.repository.as_deref())?;
    let selected = session.project.select(&args.images.patterns(), args.images.values())?;
    if !args.dry_run {
        session.building.clone_from(&selected);
    }
    let request = Request {
        images: &selected,
        to: &args.dest,
        dry_run: args.dry_run,
        locked: args.locked,
        takes_only: args.cache.read_only,
    };
    // What was sent is there, and told, also when a later image fails.
    let (sent, printed) = (Mutex::new(Vec::new()), Mutex::new(Ok(())));
    let on_step = |step: Step<'_>| match step {
        Step::Finished(finished) => report_conflicts(&session, finished),
        Step::Offered(bytes) => report_offered(&session, bytes),
        Step::Transfer(push::Step::Transfer { blob, event }) => {
            let title = format!("sending {}", blob.digest);
            session.progress.sending(&title, blob.size, &event);
        }
        Step::Delivered(delivered) => {
            let Delivered { output, to, moved } = delivered;
            session.progress.clear();
            session.progress.line(&format!("{to}: {}", text(moved, args.dry_run)));
            if !global.json {
                let line = print(&format!("{} {to}@{}\n", output.name, output.digest));
                let mut printed = lock(&printed);
                if printed.is_ok() {
                    *printed = line;
                }
            }
            lock(&sent).push(delivered.clone());
        }
    };
    let outcome =
        session.observed(|session, observer| delivery::deliver(session, observer, &request, &on_step));
    let sent = sent.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    printed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())?;
    if outcome.is_ok() {
        session.progress.line(&format!("done in {}", format::duration(start.elapsed())));
    }
    if global.json && (outcome.is_ok() || !sent.is_empty()) {
        print_json(&as_json(&sent, args.dry_run))?;
    }
    Ok(outcome?)
}

fn text(moved: &Moved, dry_run: bool) -> String {
    let part = |Count { blobs, bytes }: Count| format!("{blobs} blobs ({})", format::bytes(bytes));
    match dry_run {
        true => format!("{} to send or to mount, {} there", part(moved.sent), part(moved.skipped)),
        false => format!(
            "{} sent, {} mounted, {} there",
            part(moved.sent),
            part(moved.mounted),
            part(moved.skipped)
        ),
    }
}

fn as_json(sent: &[Delivered], dry_run: bool) -> serde_json::Value {
    let count = |Count { blobs, bytes }: Count| json!({"blobs": blobs, "bytes": bytes});
    let images: Vec<_> = sent
        .iter()
        .map(|Delivered { output, to, moved }| {
            json!({
                "name": output.name,
                "reference": to.to_string(),
                "digest": output.digest,
                "sent": count(moved.sent),
                "mounted": count(moved.mounted),
                "skipped": count(moved.skipped),
            })
        })
        .collect();
    json!({"version": 1, "dry_run": dry_run, "images": images})
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
