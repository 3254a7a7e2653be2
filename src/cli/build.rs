use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use imgforge::Error;
use imgforge::artifacts::Resolved;
use imgforge::project::{Finished, Prepared};
use imgforge_oci::{Descriptor, DiffId, Digest, Image, Ref, archive, docker_archive, layout};
use serde_json::json;

use super::args::{Build, Global};
use super::format;
use super::outcome::{Output, check_lock, difference, outputs, report_conflicts};
use super::report::Report;
use super::session::{Failure, Session, print, print_json};

pub(crate) fn run(global: &Global, args: Build) -> Result<(), Failure> {
    let start = Instant::now();
    for file in args.archive.iter().chain(&args.docker_archive) {
        check_target(file)?;
    }
    let session = Session::open(global, &args.images.file())?;
    let mut session = session.with_cache(args.cache.repository.as_deref())?;
    if let Some(compression) = args.compression {
        session.project.config.settings.compression = compression.into();
    }
    let selected = session.project.select(&args.images.patterns(), args.images.values())?;
    if let (Some(_), [_, _, ..], Some(image)) =
        (&args.docker_archive, session.project.platforms().as_slice(), selected.first())
    {
        return Err(Failure::Platforms { image: image.clone() });
    }
    session.building.clone_from(&selected);
    session.has_shell = args.shell_on_failure;
    let mut lock = session.project.lock.clone();
    let prepared = session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
    let old = &session.project.lock;
    // Pins that are out of date are told before anything is made of them.
    if args.locked && !lock.has_same_pins(old) {
        return Err(Error::Locked { difference: difference(&session, &lock) }.into());
    }
    let finished =
        session.with_tools(|tools| session.project.make_prepared(tools, &prepared, &mut lock, &selected))?;
    report_conflicts(&session, &finished);

    let images: Vec<(String, Image)> =
        finished.iter().map(|finished| (finished.name.clone(), finished.image.clone())).collect();
    let outputs = outputs(&session, &selected, &images)?;
    if args.locked && lock != session.project.lock {
        return Err(Error::Locked { difference: difference(&session, &lock) }.into());
    }
    // The outcome of other settings than the file's is not its outcome.
    let keeps_lock = args.compression.is_some();
    if !keeps_lock {
        check_lock(&session, &lock)?;
    }
    let archives = args.archive.is_some() || args.docker_archive.is_some();
    let folder = args.output.clone().or_else(|| (!archives).then(|| PathBuf::from("dist")));
    fetch_bases(&session, &finished, archives, folder.as_deref())?;
    let refs: Vec<Ref> = outputs.iter().map(|output| output.reference.clone()).collect();
    let path_of = |digest: &Digest| session.store.blob_path(digest);
    let mut written = Vec::new();
    if let Some(file) = &args.archive {
        session
            .progress
            .during(&format!("writing {}", file.display()), || archive::write_file(file, &refs, &path_of))?;
        written.push(file.display().to_string());
    }
    if let Some(file) = &args.docker_archive {
        let write = || write_docker_archive(file, &outputs, &finished, &path_of);
        let result = session.progress.during(&format!("writing {}", file.display()), write);
        after(&written, &file.display().to_string(), result)?;
        written.push(file.display().to_string());
    }
    if let Some(folder) = &folder {
        let name = folder.display().to_string();
        let write = || layout::write(folder, &refs, &path_of);
        let result = session.progress.during(&format!("writing {name}"), write).map(|done| {
            if let Some(reason) = done.not_removed {
                session.progress.line(&format!("note: nothing was removed from {name}: {reason}"));
            }
        });
        after(&written, &name, result)?;
        written.push(name);
    }
    // Last, because it says what outputs there are.
    if !keeps_lock {
        after(&written, "images.lock", session.project.write_lock(&lock).map(drop))?;
    }
    if !args.cache.read_only {
        offer(&session, &prepared, &finished)?;
    }
    let report = Report::new(&session, &finished, start.elapsed());
    session.progress.line(&report.table());
    if global.json {
        return print_json(&as_json(&outputs, &finished, &prepared.artifacts, &report));
    }
    print(&outputs.iter().map(|output| format!("{} {}\n", output.name, output.digest)).collect::<String>())
}

/// Writes the archive that `docker load` takes, where an image is for one platform.
fn write_docker_archive(
    file: &Path,
    outputs: &[Output],
    finished: &[Finished],
    path_of: &(dyn Fn(&Digest) -> PathBuf + Sync),
) -> Result<(), Failure> {
    let mut images = Vec::new();
    for output in outputs {
        let platforms: Vec<&Finished> =
            finished.iter().filter(|finished| finished.name == output.name).collect();
        let [only] = platforms.as_slice() else {
            return Err(Failure::Platforms { image: output.name.clone() });
        };
        images.push(docker_archive::Named {
            image: &only.image,
            names: vec![output.reference.name().to_owned()],
        });
    }
    let records = || finished.iter().flat_map(|finished| &finished.layers).map(|(_, made)| &made.record);
    let tar_size =
        |diff_id: &DiffId| records().find(|record| record.diff_id == *diff_id).map(|record| record.tar_size);
    Ok(docker_archive::write_file(file, &images, path_of, &tar_size)?)
}

/// Puts what was made into the cache, if there is one.
pub(crate) fn offer(session: &Session, prepared: &Prepared, finished: &[Finished]) -> Result<(), Failure> {
    let built = prepared.artifacts.iter().flat_map(|artifact| &artifact.layers);
    let layers = finished.iter().flat_map(|finished| &finished.layers).chain(built);
    let layers: Vec<_> = layers.cloned().collect();
    let sent = session.with_tools(|tools| {
        let artifacts = imgforge::artifacts::offer(tools, &prepared.artifacts)?;
        Ok(artifacts + session.project.workshop(tools, prepared).offer(&layers)?)
    })?;
    if sent > 0 {
        session.progress.line(&format!("{} sent to the cache", format::bytes(sent)));
    }
    Ok(())
}

/// Fetches those layers of bases that an output lacks: an archive has all of them, a layout may have some from before.
fn fetch_bases(
    session: &Session,
    finished: &[Finished],
    archive: bool,
    layout: Option<&Path>,
) -> Result<(), Failure> {
    let holds = |layer: &Descriptor| match layout {
        Some(layout) if !archive => layout::holds(layout, layer),
        _ => Ok(false),
    };
    let mut lacking = BTreeSet::new();
    for base in finished.iter().filter_map(|finished| finished.base.as_ref()) {
        for layer in base.layers() {
            // Looked at in any case: what the store has would be taken before what the layout has.
            let is_here = session.store.contains(&layer.digest)?;
            if !is_here && !holds(&layer)? {
                lacking.insert(layer.digest);
            }
        }
    }
    let lacks = |layer: &Descriptor| lacking.contains(&layer.digest);
    session.with_tools(|tools| session.project.fetch_base_layers(tools, finished, &lacks))
}

/// Refuses an archive that can't be put where it is to be, before hours are spent on what is in it.
fn check_target(file: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.is_dir() {
        true => Ok(()),
        false => Err(Failure::NoFolder { folder: folder.to_owned(), file: file.to_owned() }),
    }
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

fn as_json(
    outputs: &[Output],
    finished: &[Finished],
    artifacts: &[Resolved],
    report: &Report,
) -> serde_json::Value {
    let images: Vec<_> = outputs
        .iter()
        .map(|output| {
            let platforms: Vec<_> = finished
                .iter()
                .zip(&report.images)
                .filter(|(finished, _)| finished.name == output.name)
                .map(|(image, (_, figures))| {
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
                                "from_cache": made.is_taken,
                                "seconds": made.made_in.map(|took| took.as_secs_f64()),
                            })
                        })
                        .collect();
                    json!({
                        "platform": image.platform,
                        "manifest": image.image.manifest().descriptor().digest,
                        "figures": figures.json(),
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
    let artifacts: Vec<_> = artifacts
        .iter()
        .filter_map(|artifact| {
            let built = artifact.built.as_ref()?;
            Some(json!({
                "name": artifact.inputs.name,
                "title": artifact.line(),
                "key": artifact.key,
                "file": built.file,
                "sha256": built.sha256,
                "size": built.size,
                "built": artifact.is_new,
            }))
        })
        .collect();
    json!({"version": 1, "images": images, "artifacts": artifacts, "totals": report.totals()})
}
