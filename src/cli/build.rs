use std::path::PathBuf;
use std::time::Instant;

use imgforge::artifacts::Resolved;
use imgforge::build::{self, Built, Step};
use imgforge::outcome::Output;
use imgforge::project::Finished;
use serde_json::json;

use super::args::{Build, Global};
use super::outcome::{report_conflicts, report_offered};
use super::report::Report;
use super::session::{Failure, Session, print, print_json};

pub(crate) fn run(global: &Global, args: Build) -> Result<(), Failure> {
    let start = Instant::now();
    let session = Session::open(global, &args.images.file())?;
    let mut session = session.with_cache(args.cache.repository.as_deref())?;
    if let Some(compression) = args.compression {
        session.project.config.settings.compression = compression.into();
    }
    let selected = session.project.select(&args.images.patterns(), args.images.values())?;
    session.building.clone_from(&selected);
    session.has_shell = args.shell_on_failure;
    let archives = args.archive.is_some() || args.docker_archive.is_some();
    let folder = args.output.clone().or_else(|| (!archives).then(|| PathBuf::from("dist")));
    let request = build::Request {
        images: &selected,
        locked: args.locked,
        keeps_lock: args.compression.is_some(),
        takes_only: args.cache.read_only,
        layout: folder.as_deref(),
        archive: args.archive.as_deref(),
        docker_archive: args.docker_archive.as_deref(),
    };
    let on_step = |step: Step<'_>| match step {
        Step::Finished(finished) => {
            session.progress.clear();
            report_conflicts(&session, finished);
        }
        Step::Writing(path) => session.progress.begin_writing(path),
        Step::Written(path) => session.progress.finish_writing(path),
        Step::NotRemoved(folder, reason) => {
            let folder = folder.display();
            session.progress.line(&format!("note: nothing was removed from {folder}: {reason}"));
        }
        Step::Offered(bytes) => report_offered(&session, bytes),
    };
    let Built { outputs, finished, artifacts } =
        session.observed(|session, observer| build::build(session, observer, &request, &on_step))?;
    let report = Report::new(&session, &finished, start.elapsed());
    session.progress.line(&report.table());
    if global.json {
        return print_json(&as_json(&outputs, &finished, &artifacts, &report));
    }
    print(&outputs.iter().map(|output| format!("{} {}\n", output.name, output.digest)).collect::<String>())
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
