use std::collections::BTreeSet;

use imgforge::images_lock::{EnvironmentPins, ImagesLock};
use imgforge::outcome::difference;
use imgforge::project::Prepared;
use imgforge::{Error, bases};
use imgforge_oci::Digest;
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
    let prepared = session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
    let moved = if args.upgrade { Vec::new() } else { moved(&session, &prepared) };
    let changes = changes(old, &lock);
    if args.check && lock != *old {
        let difference = if changes.is_empty() { difference(&session, &lock) } else { changes.join(", ") };
        return Err(Error::Locked { difference }.into());
    }
    let written = session.project.write_lock(&lock)?;
    for change in &changes {
        session.progress.line(change);
    }
    for Moved { base, image, pinned, now } in &moved {
        session.progress.line(&format!(
            "note: [base.{base}]: {image} has moved\n  images.lock: {pinned}\n  now:         {now}\n  `imgforge lock \
             --upgrade` follows it"
        ));
    }
    if !written {
        session.progress.line("images.lock is up to date");
    }
    if global.json {
        let moved: Vec<_> = moved
            .iter()
            .map(|Moved { base, image, pinned, now }| {
                json!({"base": base, "image": image, "pinned": pinned, "now": now})
            })
            .collect();
        return print_json(&json!({"version": 1, "written": written, "changes": changes, "moved": moved}));
    }
    Ok(())
}

/// A base whose name stands for another image than it did.
struct Moved {
    base: String,
    image: String,
    pinned: Digest,
    now: Digest,
}

/// Looks where the bases' names lead by now. Not to be able to is no failure: the pins are as good as before.
fn moved(session: &Session, prepared: &Prepared) -> Vec<Moved> {
    let mut moved: Vec<Moved> = Vec::new();
    let mut seen = BTreeSet::new();
    for base in prepared.images.iter().filter_map(|image| image.base.as_ref()) {
        let names_a_digest = base.reference().is_some_and(|reference| reference.digest().is_some());
        if session.offline || names_a_digest || !seen.insert(base.base.clone()) {
            continue;
        }
        match session.with_tools(|tools| bases::moved(base, tools)) {
            Ok(Some(now)) => moved.push(Moved {
                base: base.base.clone(),
                image: base.transport.to_string(),
                pinned: base.digest,
                now,
            }),
            Ok(None) => {}
            Err(error) => session.progress.line(&format!("note: [base.{}]: {error}", base.base)),
        }
    }
    moved
}

/// What a reviewer wants to know: which packages come, go and change.
fn changes(old: &ImagesLock, new: &ImagesLock) -> Vec<String> {
    let mut changes = Vec::new();
    for (key, pins) in &new.bases {
        let place = format!("{} ({})", key.0, key.1);
        match old.bases.get(key) {
            None => changes.push(format!("{place}: {} pinned at {}", pins.image, pins.digest)),
            Some(before) if before.digest != pins.digest || before.image != pins.image => {
                changes.push(format!("{place}: {} {} → {}", pins.image, before.digest, pins.digest));
            }
            Some(before) if before != pins => {
                changes.push(format!("{place}: what is in {} pinned", pins.image))
            }
            Some(_) => {}
        }
    }
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
        let before = old.environments.get(key).map(names).unwrap_or_default();
        compare(&format!("{} ({})", key.0, key.1), &before, &names(pins), &mut changes);
    }
    changes
}

/// Names and versions of all packages of an environment.
fn names(pins: &EnvironmentPins) -> Vec<(&str, &str)> {
    let wheels = pins.artifacts.iter().map(|wheel| (wheel.name.as_str(), wheel.version.as_str()));
    let packages = pins.packages.iter().map(|package| (package.name.as_str(), package.version.as_str()));
    wheels.chain(packages).collect()
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
