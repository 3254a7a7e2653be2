use imgforge::artifacts::Resolved;
use imgforge::images_lock::BuiltArtifact;
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
    match (&args.rebuild, args.store_blobs) {
        (Some(artifact), _) => rebuild(global, &args, artifact),
        (None, true) => blobs(global, &args),
        (None, false) => again(global, &args),
    }
}

/// Builds an artifact a second time, from the same inputs, and compares.
fn rebuild(global: &Global, args: &Verify, name: &str) -> Result<(), Failure> {
    let mut session = Session::open(global, &args.images.file())?;
    session.building = session.project.select(&args.images.patterns(), args.images.values())?;
    let find = |session: &Session| -> Result<Vec<Resolved>, Failure> {
        let mut lock = session.project.lock.clone();
        let prepared = session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
        Ok(prepared.artifacts.into_iter().filter(|it| it.inputs.name == name && it.built.is_some()).collect())
    };
    let first = find(&session)?;
    if first.is_empty() {
        return Err(Failure::Check(format!("no image has anything of [artifact.{name}]")));
    }
    session.rebuild = Some(name.to_owned());
    let second = find(&session)?;
    let mut results = Vec::new();
    let mut count = 0;
    for (first, second) in first.iter().zip(&second) {
        // What the selected images don't use was not built.
        let (true, Some(before), Some(now)) = (second.is_new, &first.built, &second.built) else { continue };
        let differences = match before.sha256 == now.sha256 {
            true => Vec::new(),
            false => differences(&session, before, now)?,
        };
        let is_same = before.sha256 == now.sha256;
        count += usize::from(!is_same);
        let word = if is_same { "the same bytes" } else { "other bytes" };
        session.progress.line(&format!("{}: {word}, sha256:{}", first.line(), now.sha256));
        for difference in &differences {
            session.progress.line(&format!("  {difference}"));
        }
        results.push(json!({
            "title": first.line(),
            "key": first.key,
            "same": is_same,
            "first": before.sha256,
            "second": now.sha256,
            "differences": differences,
        }));
    }
    if results.is_empty() {
        return Err(Failure::Check(format!("no selected image has anything of [artifact.{name}]")));
    }
    if global.json {
        print_json(&json!({"version": 1, "artifact": name, "results": results}))?;
    }
    match count {
        0 => Ok(()),
        _ => Err(Failure::Check(format!("[artifact.{name}] does not come out the same twice"))),
    }
}

/// What differs in two results, a line each.
fn differences(
    session: &Session,
    first: &BuiltArtifact,
    second: &BuiltArtifact,
) -> Result<Vec<String>, Failure> {
    let open = |built: &BuiltArtifact| -> Result<imgforge_layer::Source, Failure> {
        let digest = imgforge_oci::Digest::from_hex(&built.sha256).map_err(imgforge::Error::Digest)?;
        let file = session.store.open_blob(&digest)?;
        imgforge_layer::Source::from_file(file, session.store.blob_path(&digest)).map_err(Failure::File)
    };
    if first.file != second.file {
        return Ok(vec![format!("the file is called {}, before it was {}", second.file, first.file)]);
    }
    if !first.file.ends_with(".whl") {
        return Ok(vec![format!("{}: {} bytes, before {}", first.file, second.size, first.size)]);
    }
    let found = imgforge_artifact::compare(&open(first)?, &open(second)?)
        .map_err(|error| Failure::Check(format!("{}: {error}", first.file)))?;
    Ok(found.iter().map(ToString::to_string).collect())
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
        let mut session = Session::with_store(global, project(&file)?, store)?;
        let selected = session.project.select(&args.images.patterns(), args.images.values())?;
        session.building.clone_from(&selected);
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
    let mut session = Session::with_store(global, project, Store::open(folder.path())?)?;
    let mut lock = session.project.lock.clone();
    // Inputs that the store has already need not be fetched; they are verified on their way.
    session.with_tools(|tools| {
        let prepared = session.project.prepare(tools, &mut lock)?;
        let inputs = prepared.units.iter().flat_map(|unit| unit.inputs());
        for input in inputs.filter(|input| input.place != imgforge::unit::Place::Built) {
            let digest = imgforge_oci::Digest::from_hex(&input.sha256).map_err(imgforge::Error::Digest)?;
            if main.contains(&digest)? && !session.store.contains(&digest)? {
                let mut writer = session.store.hashing_writer()?;
                std::io::copy(&mut main.open_blob(&digest)?, &mut writer)?;
                writer.commit_expecting(&digest)?;
            }
        }
        Ok(())
    })?;
    session.building.clone_from(&selected);
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
