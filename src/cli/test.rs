use std::io::Read as _;
use std::time::Instant;

use imgforge::smoke::{self, Outcome};
use imgforge_sandbox::Exit;
use serde_json::json;

use super::args::{Global, Test};
use super::format;
use super::session::{Failure, Session, print_json};

/// Bytes of what a command printed that are shown: its end.
const SHOWN: u64 = 64 << 10;

pub(crate) fn run(global: &Global, args: Test) -> Result<(), Failure> {
    let start = Instant::now();
    let mut session = Session::open(global, &args.images.file())?.with_cache(args.cache.as_deref())?;
    let selected = session.project.select(&args.images.patterns(), args.images.values())?;
    session.building.clone_from(&selected);
    let mut lock = session.project.lock.clone();
    let finished = session.with_tools(|tools| session.project.make(tools, &mut lock, &selected))?;
    let on_end = |outcome: &Outcome| {
        let word = if outcome.is_success() { "ok" } else { "FAILED" };
        session.progress.line(&format!(
            "{word:<6} {}: {} ({})",
            session.project.reference(&outcome.image),
            format::command(&outcome.command),
            format::duration(outcome.duration)
        ));
    };
    let outcomes = session.with_tools(|tools| smoke::run(&session.project, tools, &finished, &on_end))?;
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.is_success()).collect();
    for outcome in &failed {
        let printed = printed(&session, outcome)?;
        session.progress.line(&format!(
            "\n{}: {}\n{}{}",
            session.project.reference(&outcome.image),
            format::command(&outcome.command),
            printed,
            ending(outcome)
        ));
    }
    let without: Vec<&str> = selected
        .iter()
        .filter(|key| session.project.config.images.get(*key).is_some_and(|image| image.smoke.is_empty()))
        .map(|key| session.project.name(key))
        .collect();
    if !without.is_empty() {
        session.progress.line(&format!("note: no `smoke` commands: {}", without.join(", ")));
    }
    let took = format::duration(start.elapsed());
    session.progress.line(&format!(
        "{} passed, {} failed in {took}",
        outcomes.len() - failed.len(),
        failed.len()
    ));
    if global.json {
        let results = outcomes
            .iter()
            .map(|outcome| {
                Ok(json!({
                    "image": session.project.reference(&outcome.image),
                    "platform": outcome.platform,
                    "command": outcome.command,
                    "success": outcome.is_success(),
                    "exit": match outcome.exit { Exit::Code(code) => Some(code), Exit::Signal(_) => None },
                    "signal": match outcome.exit { Exit::Signal(signal) => Some(signal), Exit::Code(_) => None },
                    "limit": outcome.limit,
                    "problem": outcome.problem,
                    "milliseconds": u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
                    "output": printed(&session, outcome)?,
                }))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        print_json(&json!({"version": 1, "results": results}))?;
    }
    match failed.len() {
        0 => Ok(()),
        count => Err(Failure::Check(format!("{count} of {} smoke commands failed", outcomes.len()))),
    }
}

/// The end of what a command printed.
fn printed(session: &Session, outcome: &Outcome) -> Result<String, Failure> {
    let Some(log) = &outcome.log else { return Ok(String::new()) };
    let mut file = session.store.open_blob(log)?;
    let len = file.metadata().map_err(Failure::File)?.len();
    let mut text = Vec::new();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(len.saturating_sub(SHOWN)))
        .map_err(Failure::File)?;
    file.read_to_end(&mut text).map_err(Failure::File)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn ending(outcome: &Outcome) -> String {
    if let Some(problem) = &outcome.problem {
        return problem.clone();
    }
    match (outcome.limit, outcome.exit) {
        (Some(limit), _) => format!("stopped at its limit of {limit:?}"),
        (None, Exit::Code(code)) => format!("exit code {code}"),
        (None, Exit::Signal(signal)) => format!("ended by signal {signal}"),
    }
}
