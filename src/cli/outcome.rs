//! What came out of a build, told.

use std::collections::BTreeMap;

use imgforge::project::Finished;

use super::format;
use super::session::Session;

/// Tells of paths that several packages have.
pub(crate) fn report_conflicts(session: &Session, finished: &[Finished]) {
    let mut told: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for conflict in finished.iter().flat_map(|finished| &finished.conflicts) {
        let paths = told.entry((&conflict.winner, &conflict.loser)).or_default();
        if !paths.contains(&conflict.path.as_str()) {
            paths.push(&conflict.path);
        }
    }
    for ((winner, loser), paths) in told {
        let more = match paths.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let first = paths.first().copied().unwrap_or_default();
        session.progress.line(&format!("note: {first}{more}: {winner} covers {loser}"));
    }
}

/// Tells what the cache was given.
pub(crate) fn report_offered(session: &Session, bytes: u64) {
    if bytes > 0 {
        session.progress.line(&format!("{} sent to the cache", format::bytes(bytes)));
    }
}
