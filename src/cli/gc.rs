use std::collections::HashSet;
use std::path::Path;
use std::time::SystemTime;

use imgforge::bases;
use imgforge_oci::Digest;
use imgforge_sandbox::Sandbox;
use imgforge_store::GcPolicy;
use serde_json::json;

use super::args::{Gc, Global};
use super::format;
use super::progress::Progress;
use super::session::{Failure, print_json, project, store};

pub(crate) fn run(global: &Global, args: Gc) -> Result<(), Failure> {
    let store = store(global)?;
    let mut policy = GcPolicy { max_age: args.max_age, max_size: args.max_size, ..GcPolicy::default() };
    // Without a project there is nothing to keep; one that was named and is missing would lose its layers.
    if args.file.exists() || args.file != Path::new("images.toml") {
        let project = project(&args.file)?;
        let layers = project.lock.images.values().flat_map(|outcome| &outcome.layers);
        let digests: HashSet<_> = layers.clone().map(|layer| layer.digest).collect();
        policy.keep = digests;
        policy.keep.extend(project.lock.images.values().map(|outcome| outcome.manifest));
        for pins in project.lock.bases.values() {
            policy.keep.extend(bases::blobs(&store, pins));
        }
        let layers = layers.map(|layer| format!("layers/{}/{}", imgforge_layer::LAYER_FORMAT, layer.key));
        let artifacts = project.lock.artifacts.keys().map(|key| imgforge::artifacts::record(key));
        policy.keep_records = layers.chain(artifacts).collect();
        for built in project.lock.artifacts.values() {
            policy.keep.extend(Digest::from_hex(&built.sha256));
        }
    }
    let now = SystemTime::now();
    let report = match args.dry_run {
        true => store.plan_gc(&policy, now)?,
        false => {
            let report = store.gc(&policy, now)?;
            // What was unpacked goes with its record; only the sandbox can remove all of it.
            Sandbox::new(&store)?.sweep()?;
            report
        }
    };
    let verb = if args.dry_run { "would remove" } else { "removed" };
    Progress::new(global.quiet).line(&format!(
        "{verb} {} blobs ({}), {} records (unpacked: {}) and {} remains ({}); {} blobs ({}, unpacked: {}) stay",
        report.removed.len(),
        format::bytes(report.bytes),
        report.records,
        format::bytes(report.record_bytes),
        report.remains,
        format::bytes(report.remains_bytes),
        report.kept,
        format::bytes(report.kept_bytes),
        format::bytes(report.kept_record_bytes),
    ));
    if global.json {
        return print_json(&json!({
            "version": 1,
            "dry_run": args.dry_run,
            "removed": report.removed,
            "removed_bytes": report.bytes,
            "records": report.records,
            "unpacked_bytes": report.record_bytes,
            "remains": report.remains,
            "remains_bytes": report.remains_bytes,
            "kept": report.kept,
            "kept_bytes": report.kept_bytes,
            "kept_unpacked_bytes": report.kept_record_bytes,
        }));
    }
    Ok(())
}
