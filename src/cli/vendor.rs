use std::collections::BTreeMap;

use fs_err as fs;
use imgforge::Error;
use imgforge_oci::{Digest, Hasher};
use serde_json::json;

use super::args::{Global, Vendor};
use super::format;
use super::session::{Failure, Session, print_json};

pub(crate) fn run(global: &Global, args: Vendor) -> Result<(), Failure> {
    let session = Session::open(global, &args.file)?;
    let mut lock = session.project.lock.clone();
    let prepared = session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
    session.with_tools(|tools| session.project.workshop(tools, &prepared).fetch(&prepared.units))?;

    let mut files: BTreeMap<String, (String, Digest)> = BTreeMap::new();
    for input in prepared.units.iter().flat_map(|unit| unit.inputs()) {
        let digest = Digest::from_hex(&input.sha256).map_err(Error::Digest)?;
        if let Some((title, other)) = files.insert(input.file.clone(), (input.title.clone(), digest))
            && other != digest
        {
            return Err(Failure::Check(format!(
                "{title} and {} both have a file {}, with different content: a vendor folder holds one of them",
                input.title, input.file
            )));
        }
    }
    let folder = session.project.folder.join(&session.project.config.settings.vendor);
    fs::create_dir_all(&folder).map_err(Failure::File)?;
    let (mut bytes, mut copied) = (0, 0);
    for (name, (_, digest)) in &files {
        let target = folder.join(name);
        if hash(&target).map_err(Failure::File)? != Some(*digest) {
            let draft = folder.join(format!(".{name}.part"));
            fs::copy(session.store.blob_path(digest), &draft).map_err(Failure::File)?;
            // The store's blobs are read-only; a checkout's files are the user's.
            let mut permissions = fs::metadata(&draft).map_err(Failure::File)?.permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
            fs::set_permissions(&draft, permissions).map_err(Failure::File)?;
            fs::rename(&draft, &target).map_err(Failure::File)?;
            copied += 1;
        }
        bytes += fs::metadata(&target).map_err(Failure::File)?.len();
    }
    let mut extra = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Failure::File)? {
        let entry = entry.map_err(Failure::File)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !files.contains_key(&name) && !name.starts_with('.') {
            if args.prune {
                fs::remove_file(entry.path()).map_err(Failure::File)?;
            }
            extra.push(name);
        }
    }
    extra.sort();
    session.project.write_lock(&lock)?;
    let folder = folder.display();
    session.progress.line(&format!(
        "{folder}: {} files, {}, {copied} new",
        files.len(),
        format::bytes(bytes)
    ));
    if !extra.is_empty() {
        let what = if args.prune { "removed" } else { "in no lock (--prune removes them)" };
        session.progress.line(&format!("{what}: {}", extra.join(", ")));
    }
    if global.json {
        return print_json(&json!({
            "version": 1,
            "files": files.len(),
            "bytes": bytes,
            "copied": copied,
            "extra": extra,
        }));
    }
    Ok(())
}

/// The digest of a file, if there is one.
fn hash(path: &std::path::Path) -> std::io::Result<Option<Digest>> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut hasher = Hasher::new();
    std::io::copy(&mut file, &mut hasher)?;
    Ok(Some(hasher.finish()))
}
