use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fs_err as fs;
use imgforge::Error;
use imgforge::project::Prepared;
use imgforge::unit::Input;
use imgforge_oci::{Digest, Hasher};
use serde_json::json;

use super::args::{Global, Vendor};
use super::format;
use super::session::{Failure, Session, print_json};

pub(crate) fn run(global: &Global, args: Vendor) -> Result<(), Failure> {
    let session = Session::open(global, &args.file)?;
    let mut lock = session.project.lock.clone();
    let prepared = session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
    let inputs = inputs(&session, &prepared)?;
    for input in &inputs {
        check_name(&input.title, &input.file)?;
    }
    session.with_tools(|tools| session.project.workshop(tools, &prepared).fetch_inputs(&inputs))?;

    let mut files: BTreeMap<String, (String, Digest)> = BTreeMap::new();
    for input in &inputs {
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
            copy(&session.store.blob_path(digest), &folder, name).map_err(Failure::File)?;
            copied += 1;
        }
        bytes += fs::metadata(&target).map_err(Failure::File)?.len();
    }
    let (mut extra, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(&folder).map_err(Failure::File)? {
        let entry = entry.map_err(Failure::File)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_wanted = match name.starts_with('.') {
            true => !is_stale_draft(&name),
            false => files.contains_key(&name),
        };
        if is_wanted {
            continue;
        }
        // A folder is nothing that this command has made.
        if entry.file_type().map_err(Failure::File)?.is_dir() {
            folders.push(name);
            continue;
        }
        if args.prune {
            fs::remove_file(entry.path()).map_err(Failure::File)?;
        }
        extra.push(name);
    }
    extra.sort();
    folders.sort();
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
    if args.prune && !folders.is_empty() {
        session.progress.line(&format!("folders, left alone: {}", folders.join(", ")));
    }
    if global.json {
        return print_json(&json!({
            "version": 1,
            "files": files.len(),
            "bytes": bytes,
            "copied": copied,
            "extra": extra,
            "folders": folders,
        }));
    }
    Ok(())
}

/// Everything that images are made from, and builds of artifacts. What a build makes is taken along where it is there, or in
/// the cache; of others it is said that it has to be built.
fn inputs(session: &Session, prepared: &Prepared) -> Result<Vec<Input>, Failure> {
    let mut absent = Vec::new();
    for artifact in &prepared.artifacts {
        let Some(built) = artifact.built.as_ref().filter(|_| !artifact.is_in_cache) else { continue };
        let digest = Digest::from_hex(&built.sha256).map_err(Error::Digest)?;
        if !session.store.contains(&digest)? {
            absent.push(built.sha256.clone());
            session.progress.line(&format!(
                "note: {} is not here, only what it is built from: `imgforge build` makes it",
                artifact.line()
            ));
        }
    }
    let units = prepared.units.iter().flat_map(|unit| unit.inputs());
    let needs = prepared.artifacts.iter().flat_map(|artifact| artifact.needs.iter().cloned());
    Ok(units.chain(needs).filter(|input| !absent.contains(&input.sha256)).collect())
}

/// Refuses a file that would not lie in the vendor folder, or would be hidden in it: its name comes from a lock.
fn check_name(title: &str, file: &str) -> Result<(), Failure> {
    match file.is_empty() || file.starts_with('.') || file.contains(['/', '\0']) {
        true => Err(Failure::Check(format!(
            "{title}: its lock calls the file {file:?}, and a vendor folder takes only plain names, without `/` and \
             without a leading `.`"
        ))),
        false => Ok(()),
    }
}

/// Copies a blob into the folder, by way of a draft that no other process writes to.
fn copy(blob: &Path, folder: &Path, name: &str) -> io::Result<()> {
    let draft = folder.join(format!(".{name}.{}.part", std::process::id()));
    let write = || {
        fs::copy(blob, &draft)?;
        // The store's blobs are read-only; a checkout's files are the user's.
        fs::set_permissions(&draft, Permissions::from_mode(0o644))?;
        fs::rename(&draft, folder.join(name))
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Whether this is a draft, `.NAME.PID.part`, of a process that is no more.
fn is_stale_draft(name: &str) -> bool {
    let draft = name.strip_suffix(".part").and_then(|rest| rest.rsplit_once('.'));
    draft.is_some_and(|(_, process)| {
        process.parse::<u32>().is_ok_and(|process| !Path::new("/proc").join(process.to_string()).exists())
    })
}

/// The digest of a file, if there is one.
fn hash(path: &Path) -> io::Result<Option<Digest>> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut hasher = Hasher::new();
    io::copy(&mut file, &mut hasher)?;
    Ok(Some(hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, is_good: bool) {
        assert_eq!(check_name("numpy 2.1.0", file).is_ok(), is_good, "{file}");
    }

    #[test]
    fn only_plain_names_are_vendored() {
        check("numpy-2.1.0+local-py3-none-any.whl", true);
        check("less_590-2.1~deb12u2_amd64.deb", true);
        for file in ["", ".", "..", "../a.whl", "a/b.whl", "/a.whl", ".hidden.whl"] {
            check(file, false);
        }
    }
}
