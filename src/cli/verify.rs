use imgforge_oci::validate;
use imgforge_store::{Damaged, Store};
use serde_json::json;

use super::args::{Global, Verify};
use super::format;
use super::progress::Progress;
use super::session::{Failure, Session, must_exist, print_json, project, store, threads};

pub(crate) fn run(global: &Global, args: Verify) -> Result<(), Failure> {
    threads(global);
    if let Some(folder) = &args.layout {
        must_exist(folder)?;
        return output(global, &validate::layout(folder)?);
    }
    if let Some(file) = &args.archive {
        must_exist(file)?;
        return output(global, &validate::archive(file)?);
    }
    match args.store_blobs {
        true => blobs(global, &args),
        false => again(global, &args),
    }
}

fn output(global: &Global, report: &validate::Report) -> Result<(), Failure> {
    let progress = Progress::new(global.quiet);
    for image in &report.images {
        progress.line(&format!(
            "{} {} {}: {} layers, good",
            image.name, image.platform, image.digest, image.layers
        ));
    }
    for name in &report.extra {
        progress.line(&format!("not part of any image: {name}"));
    }
    for remark in &report.remarks {
        progress.line(&format!("remark: {remark}"));
    }
    progress.line(&format!("{} blobs, {}", report.blobs, format::bytes(report.bytes)));
    if global.json {
        let images: Vec<_> = report
            .images
            .iter()
            .map(|image| {
                json!({
                    "reference": image.name,
                    "platform": image.platform,
                    "manifest": image.digest,
                    "layers": image.layers,
                })
            })
            .collect();
        return print_json(&json!({
            "version": 1,
            "images": images,
            "blobs": report.blobs,
            "bytes": report.bytes,
            "extra": report.extra,
            "remarks": report.remarks,
        }));
    }
    Ok(())
}

/// Hashes every blob. What is damaged is out of the way then; a project's own is fetched or made again at once.
fn blobs(global: &Global, args: &Verify) -> Result<(), Failure> {
    let store = store(global)?;
    let progress = Progress::new(global.quiet);
    let damaged = store.verify(&|_| {})?;
    for found in &damaged {
        progress.line(&match found {
            Damaged::Blob { digest, .. } => format!("damaged: blob {digest}"),
            Damaged::Record { name } => format!("damaged: record {name}"),
        });
    }
    let blobs = store.blobs()?;
    let bytes: u64 = blobs.values().sum();
    let file = args.images.file();
    let mended = !damaged.is_empty() && file.exists();
    if mended {
        let session = Session::with_store(global, project(&file)?, store)?;
        let selected = session.project.select(&args.images.patterns(), args.images.values())?;
        let mut lock = session.project.lock.clone();
        session.with_tools(|tools| session.project.make(tools, &mut lock, &selected))?;
        progress.line(&format!("what {} needs was fetched or made again", file.display()));
    }
    progress.line(&format!("{} blobs, {}, {} damaged", blobs.len(), format::bytes(bytes), damaged.len()));
    if global.json {
        let names: Vec<_> = damaged
            .iter()
            .map(|found| match found {
                Damaged::Blob { digest, .. } => digest.to_string(),
                Damaged::Record { name } => name.clone(),
            })
            .collect();
        print_json(&json!({
            "version": 1,
            "blobs": blobs.len(),
            "bytes": bytes,
            "damaged": names,
            "mended": mended,
        }))?;
    }
    match damaged.is_empty() || mended {
        true => Ok(()),
        false => Err(Failure::Check(format!(
            "{} damaged; they were moved away, and the next build fetches or makes them again",
            damaged.len()
        ))),
    }
}

/// Builds everything again, in an empty store, and compares with images.lock.
fn again(global: &Global, args: &Verify) -> Result<(), Failure> {
    let project = project(&args.images.file())?;
    let selected = project.select(&args.images.patterns(), args.images.values())?;
    let main = store(global)?;
    let folder = tempfile_in(main.root())?;
    let session = Session::with_store(global, project, Store::open(folder.path())?)?;
    let mut lock = session.project.lock.clone();
    // Inputs that the store has already need not be fetched; they are verified on their way.
    session.with_tools(|tools| {
        let prepared = session.project.prepare(tools, &mut lock)?;
        for input in prepared.units.iter().flat_map(|unit| unit.inputs()) {
            let digest = imgforge_oci::Digest::from_hex(&input.sha256).map_err(imgforge::Error::Digest)?;
            if main.contains(&digest)? && !session.store.contains(&digest)? {
                let mut writer = session.store.hashing_writer()?;
                std::io::copy(&mut main.open_blob(&digest)?, &mut writer)?;
                writer.commit_expecting(&digest)?;
            }
        }
        Ok(())
    })?;
    let finished = session.with_tools(|tools| session.project.make(tools, &mut lock, &selected))?;
    let mut different = Vec::new();
    let mut images = Vec::new();
    for image in &finished {
        let key = (image.name.clone(), image.platform.to_string());
        let made = image.image.manifest().descriptor().digest;
        let before = session.project.lock.images.get(&key).map(|outcome| outcome.manifest);
        let same = before == Some(made);
        let word = match before {
            None => "not in images.lock",
            Some(_) if same => "same",
            Some(_) => "different",
        };
        session.progress.line(&format!("{} {}: {made} {word}", image.name, image.platform));
        images.push(
            json!({"name": image.name, "platform": image.platform, "manifest": made, "locked": before}),
        );
        if !same {
            different.push(image.name.clone());
        }
    }
    if global.json {
        print_json(&json!({"version": 1, "images": images, "different": different}))?;
    }
    match different.is_empty() {
        true => Ok(()),
        false => Err(Failure::Check(format!("images.lock has another outcome for {}", different.join(", ")))),
    }
}

/// A folder of its own for the second build, on the store's file system; removed when dropped.
fn tempfile_in(root: &std::path::Path) -> Result<tempfile::TempDir, Failure> {
    let beside = root.parent().unwrap_or(root);
    tempfile::Builder::new().prefix("imgforge-verify-").tempdir_in(beside).map_err(Failure::File)
}
