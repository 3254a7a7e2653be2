use imgforge::Error;
use imgforge::images_lock::ImagesLock;
use serde_json::json;

use super::args::{Global, Lock};
use super::session::{Failure, Session, print_json};

pub(crate) fn run(global: &Global, args: Lock) -> Result<(), Failure> {
    let session = Session::open(global, &args.file)?;
    let old = &session.project.lock;
    let mut lock = match args.upgrade {
        // Outcomes stay: they say what the next build is compared with.
        true => ImagesLock { images: old.images.clone(), ..ImagesLock::default() },
        false => old.clone(),
    };
    session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
    let changes = changes(old, &lock);
    if args.check && lock != *old {
        return Err(Error::Locked { difference: changes.join(", ") }.into());
    }
    let written = session.project.write_lock(&lock)?;
    for change in &changes {
        session.progress.line(change);
    }
    if !written {
        session.progress.line("images.lock is up to date");
    }
    if global.json {
        return print_json(&json!({"version": 1, "written": written, "changes": changes}));
    }
    Ok(())
}

/// What a reviewer wants to know: which packages come, go and change.
fn changes(old: &ImagesLock, new: &ImagesLock) -> Vec<String> {
    let mut changes = Vec::new();
    for (key, pins) in &new.debian {
        let (base, architecture) = (&key.0, key.1.as_str());
        let before = old.debian.get(key).map(|pins| pins.packages.as_slice()).unwrap_or_default();
        let before: Vec<_> =
            before.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
        let after: Vec<_> =
            pins.packages.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
        compare(&format!("{base} ({architecture})"), &before, &after, &mut changes);
    }
    for (key, pins) in &new.environments {
        let before = old.environments.get(key).map(|pins| pins.artifacts.as_slice()).unwrap_or_default();
        let before: Vec<_> =
            before.iter().map(|artifact| (artifact.name.as_str(), artifact.version.as_str())).collect();
        let after: Vec<_> = pins
            .artifacts
            .iter()
            .map(|artifact| (artifact.name.as_str(), artifact.version.as_str()))
            .collect();
        compare(&format!("{} ({})", key.0, key.1), &before, &after, &mut changes);
    }
    changes
}

fn compare(place: &str, before: &[(&str, &str)], after: &[(&str, &str)], changes: &mut Vec<String>) {
    let version = |list: &[(&str, &str)], name: &str| {
        list.iter().find(|(other, _)| *other == name).map(|(_, version)| (*version).to_owned())
    };
    if before.is_empty() {
        changes.push(format!("{place}: {} packages pinned", after.len()));
        return;
    }
    for (name, new) in after {
        match version(before, name) {
            None => changes.push(format!("{place}: {name} {new} added")),
            Some(old) if old != *new => changes.push(format!("{place}: {name} {old} → {new}")),
            Some(_) => {}
        }
    }
    for (name, old) in before {
        if version(after, name).is_none() {
            changes.push(format!("{place}: {name} {old} removed"));
        }
    }
}
