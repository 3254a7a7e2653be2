use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use fs_err as fs;
use imgforge::Error;
use imgforge::images_lock::ImagesLock;
use imgforge::project::{self, Finished};
use imgforge_oci::{Digest, Image, Ref, archive, layout};
use serde_json::json;

use super::args::{Build, Global};
use super::format;
use super::session::{Failure, Session, print, print_json};

pub(crate) fn run(global: &Global, args: Build) -> Result<(), Failure> {
    let start = Instant::now();
    if let Some(file) = &args.archive {
        check_target(file)?;
    }
    let mut session = Session::open(global, &args.images.file())?;
    if let Some(compression) = args.compression {
        session.project.config.settings.compression = compression.into();
    }
    let selected = session.project.select(&args.images.patterns())?;
    let mut lock = session.project.lock.clone();
    let prepared = session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
    let old = &session.project.lock;
    // Pins that are out of date are told before anything is made of them.
    if args.locked && (lock.debian != old.debian || lock.environments != old.environments) {
        return Err(Error::Locked { difference: difference(&session, &lock) }.into());
    }
    let finished =
        session.with_tools(|tools| session.project.make_prepared(tools, &prepared, &mut lock, &selected))?;
    report_conflicts(&session, &finished);

    let outputs = outputs(&session, &selected, &finished)?;
    if args.locked && lock != session.project.lock {
        return Err(Error::Locked { difference: difference(&session, &lock) }.into());
    }
    // The outcome of other settings than the file's is not its outcome.
    let keeps_lock = args.compression.is_some();
    if !keeps_lock {
        check_lock(&session, &lock)?;
    }
    let refs: Vec<Ref> = outputs.iter().map(|output| output.reference.clone()).collect();
    let path_of = |digest: &Digest| session.store.blob_path(digest);
    let mut written = Vec::new();
    if let Some(file) = &args.archive {
        write_archive(file, &refs, &path_of)?;
        written.push(file.display().to_string());
    }
    let folder = args.output.clone().or_else(|| args.archive.is_none().then(|| PathBuf::from("dist")));
    if let Some(folder) = &folder {
        let name = folder.display().to_string();
        let result = layout::write(folder, &refs, &path_of).map(drop);
        after(&written, &name, result)?;
        written.push(name);
    }
    // Last, because it says what outputs there are.
    if !keeps_lock {
        after(&written, "images.lock", session.project.write_lock(&lock).map(drop))?;
    }
    report(&session, &finished, start);
    if global.json {
        return print_json(&as_json(&outputs, &finished));
    }
    print(&outputs.iter().map(|output| format!("{} {}\n", output.name, output.digest)).collect::<String>())
}

/// An image in an output: for one platform, or an index over several.
struct Output {
    name: String,
    digest: Digest,
    reference: Ref,
}

fn outputs(session: &Session, selected: &[String], finished: &[Finished]) -> Result<Vec<Output>, Failure> {
    let mut outputs = Vec::new();
    for name in selected {
        let images: Vec<&Image> = finished
            .iter()
            .filter(|finished| finished.name == *name)
            .map(|finished| &finished.image)
            .collect();
        let descriptor = match images.as_slice() {
            [] => continue,
            [only] => only.descriptor(),
            several => {
                let index = project::index(several)?;
                session.store.insert(index.blob().bytes())?;
                index.descriptor().clone()
            }
        };
        let digest = descriptor.digest;
        let reference = Ref::new(session.project.reference(name), descriptor)?;
        outputs.push(Output { name: name.clone(), digest, reference });
    }
    Ok(outputs)
}

/// Refuses an archive that can't be put where it is to be, before hours are spent on what is in it.
fn check_target(file: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.is_dir() {
        true => Ok(()),
        false => Err(Failure::NoFolder { folder: folder.to_owned(), file: file.to_owned() }),
    }
}

/// Writes a draft of images.lock and throws it away, if the lock is going to change: outputs that no lock describes
/// are worse than none.
fn check_lock(session: &Session, lock: &ImagesLock) -> Result<(), Failure> {
    let folder = &session.project.folder;
    let text = lock.to_text();
    if fs::read_to_string(folder.join("images.lock")).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let draft = tempfile::Builder::new().prefix(".images.lock.").tempfile_in(folder);
    draft
        .and_then(|mut draft| draft.write_all(text.as_bytes()))
        .map_err(|source| Failure::NoLock { folder: folder.clone(), source })
}

/// Passes the outcome of writing `what` on; its failure says which outputs are there already.
fn after<E: Into<Failure>>(written: &[String], what: &str, outcome: Result<(), E>) -> Result<(), Failure> {
    outcome.map_err(Into::into).map_err(|source| match written {
        [] => source,
        written => {
            Failure::HalfDone { what: what.to_owned(), written: written.to_vec(), source: Box::new(source) }
        }
    })
}

/// Streams the archive into a draft beside it, which takes its name when it is whole.
fn write_archive(file: &Path, refs: &[Ref], path_of: &dyn Fn(&Digest) -> PathBuf) -> Result<(), Failure> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let draft = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> Result<(), Failure> {
        let mut out = BufWriter::with_capacity(1 << 20, fs::File::create(&draft).map_err(Failure::File)?);
        archive::write(&mut out, refs, path_of)?;
        out.flush().map_err(Failure::File)?;
        fs::rename(&draft, file).map_err(Failure::File)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

fn report_conflicts(session: &Session, finished: &[Finished]) {
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

fn report(session: &Session, finished: &[Finished], start: Instant) {
    for image in finished {
        let size: u64 = image.layers.iter().map(|(_, made)| made.record.size).sum();
        let made: Vec<_> = image.layers.iter().filter(|(_, made)| made.made_in.is_some()).collect();
        let new: u64 = made.iter().map(|(_, made)| made.record.size).sum();
        session.progress.line(&format!(
            "{} {}: {} in {} layers, {} made ({})",
            session.project.reference(&image.name),
            image.platform,
            format::bytes(size),
            image.layers.len(),
            made.len(),
            format::bytes(new),
        ));
    }
    session.progress.line(&format!("done in {}", format::duration(start.elapsed())));
}

fn difference(session: &Session, lock: &ImagesLock) -> String {
    let old = &session.project.lock;
    if lock.debian != old.debian {
        return "Debian packages would be pinned anew".to_owned();
    }
    if lock.environments != old.environments {
        return "an environment's wheels would be pinned anew".to_owned();
    }
    let changed: Vec<String> = lock
        .images
        .iter()
        .filter(|(key, outcome)| old.images.get(*key) != Some(outcome))
        .map(|((name, platform), _)| format!("{name} ({platform})"))
        .collect();
    match changed.is_empty() {
        true => "it has images that images.toml has not".to_owned(),
        false => format!("another outcome for {}", changed.join(", ")),
    }
}

fn as_json(outputs: &[Output], finished: &[Finished]) -> serde_json::Value {
    let images: Vec<_> = outputs
        .iter()
        .map(|output| {
            let platforms: Vec<_> = finished
                .iter()
                .filter(|finished| finished.name == output.name)
                .map(|image| {
                    let layers: Vec<_> = image
                        .layers
                        .iter()
                        .map(|(spec, made)| {
                            json!({
                                "title": spec.title(),
                                "key": spec.key,
                                "digest": made.record.digest,
                                "diff_id": made.record.diff_id,
                                "size": made.record.size,
                                "made": made.made_in.is_some(),
                                "seconds": made.made_in.map(|took| took.as_secs_f64()),
                            })
                        })
                        .collect();
                    json!({
                        "platform": image.platform,
                        "manifest": image.image.manifest().descriptor().digest,
                        "layers": layers,
                        "conflicts": image.conflicts,
                    })
                })
                .collect();
            json!({
                "name": output.name,
                "reference": output.reference.name(),
                "digest": output.digest,
                "platforms": platforms,
            })
        })
        .collect();
    json!({"version": 1, "images": images})
}
