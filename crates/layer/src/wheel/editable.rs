//! A wheel installed for development: its metadata and scripts are the environment's, and its modules are imported from the
//! folder with the project's sources.
//!
//! What build backends give for an editable installation names a folder of the host that it was built on, or runs a hook.
//! The plain form is enough, and made of the project's ordinary wheel: a `.pth` file that puts the folder on `sys.path`, and
//! `direct_url.json`, by which tools tell that the distribution is editable. Of the wheel's modules only the compiled ones are
//! installed: beside the sources, where an in-place build would leave them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::record::{self, Line, RecordError};
use super::{Error, Problem, Scheme, plan};
use crate::source::Source;
use crate::tree::{Content, Entry, Kind, Tree, TreePath};

/// Plans the editable installation of a wheel.
///
/// `sources` is the folder of an image that is put on `sys.path`. Compiled modules (`*.so`) go there; the wheel's other modules and
/// data are left out, since the sources have them. Otherwise as [`plan`].
///
/// # Errors
/// As for [`plan`].
pub fn plan_editable(
    source: &Arc<Source>,
    file_name: &str,
    scheme: &Scheme,
    sources: &TreePath,
) -> Result<Tree, Error> {
    let installed = plan(source, file_name, scheme)?;
    let stem: Vec<&str> = file_name.split('-').take(2).collect();
    edit(&installed, &stem.join("-"), scheme, sources)
        .map_err(|problem| Error { wheel: file_name.to_owned(), problem })
}

fn edit(installed: &Tree, stem: &str, scheme: &Scheme, sources: &TreePath) -> Result<Tree, Problem> {
    let site_packages = scheme.prefix().join(scheme.site_packages())?;
    let below = format!("{}/", site_packages.as_str());
    let mut tree = Tree::new();
    let mut lines = BTreeMap::new();
    let mut record_path = None;
    let keep = |tree: &mut Tree, path: &TreePath, entry: &Entry| -> Result<(), Problem> {
        for above in path.ancestors() {
            let folder = installed.get(&above).cloned().unwrap_or_else(|| Entry::implied(&above));
            tree.insert(above, folder)?;
        }
        tree.insert(path.clone(), entry.clone())?;
        Ok(())
    };
    for (path, entry) in installed.iter().filter(|(_, entry)| !entry.is_directory()) {
        match path.as_str().strip_prefix(&below) {
            Some(module) if !is_metadata(module) => {
                // A wheel's own `.pth` files count in site-packages alone.
                if module.ends_with(".pth") && !module.contains('/') {
                    keep(&mut tree, path, entry)?;
                } else if is_compiled(module) {
                    keep(&mut tree, &sources.join(module)?, entry)?;
                }
            }
            Some(name) if name.ends_with(".dist-info/RECORD") => {
                lines = lines_of(entry)?;
                record_path = Some(path.clone());
            }
            _ => keep(&mut tree, path, entry)?,
        }
    }
    let Some(record_path) = record_path else { return Ok(tree) };
    let folder = format!("{}{stem}.dist-info", below);
    let direct_url = json!({"dir_info": {"editable": true}, "url": format!("file://{}", escaped(sources))});
    let made = [
        (format!("{below}__editable__.{stem}.pth"), format!("{sources}\n")),
        (format!("{folder}/direct_url.json"), direct_url.to_string()),
    ];
    for (path, text) in made {
        let path = TreePath::new(&path)?;
        keep(&mut tree, &path, &Entry::bytes(text.into_bytes(), false))?;
    }
    // RECORD has what is in the environment, and nothing of the folder with the sources, which an uninstallation must leave.
    let prefix = format!("{}/", scheme.prefix().as_str());
    let mut own: BTreeMap<String, Line> = BTreeMap::new();
    for (path, entry) in tree.iter() {
        let (Kind::File(file), Some(path)) = (&entry.kind, path.as_str().strip_prefix(&prefix)) else {
            continue;
        };
        let name = record::relative(path, scheme.site_packages());
        let known = lines.get(&name).cloned();
        let line = known.or_else(|| Some(Line::of(file.sha256?, file.content.len())));
        own.insert(name, line.unwrap_or_default());
    }
    own.insert(
        record::relative(
            record_path.as_str().strip_prefix(&prefix).unwrap_or_default(),
            scheme.site_packages(),
        ),
        Line::default(),
    );
    keep(&mut tree, &record_path, &Entry::bytes(record::write(&own)?, false))?;
    Ok(tree)
}

/// Whether a file is a module, or a library of one, that no source file stands for.
fn is_compiled(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.ends_with(".so") || name.contains(".so.")
}

/// Whether a path below site-packages belongs to a distribution's metadata.
fn is_metadata(path: &str) -> bool {
    path.split_once('/').is_some_and(|(folder, _)| folder.ends_with(".dist-info"))
}

/// A RECORD that was made here.
fn lines_of(entry: &Entry) -> Result<BTreeMap<String, Line>, RecordError> {
    match entry.content() {
        Some(Content::Bytes(bytes)) => record::lines(&String::from_utf8_lossy(bytes)),
        _ => Ok(BTreeMap::new()),
    }
}

/// A path in a URL.
fn escaped(path: &TreePath) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let text = path.to_string();
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::tests::archive::Wheel;
    use super::*;

    /// What is installed for development in `/opt/venv`, with the sources in `/app/src`; `~` is site-packages.
    fn installed(wheel: Wheel) -> BTreeMap<String, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&wheel.build()).unwrap();
        let name = "demo-1.0-py3-none-any.whl";
        let source = Arc::new(Source::from_file(file, name).unwrap());
        let scheme = Scheme::venv("/opt/venv", (3, 11)).unwrap();
        let tree = plan_editable(&source, name, &scheme, &TreePath::new("/app/src").unwrap()).unwrap();
        // It can be written, with its hashes and folders.
        crate::write_layer(&tree, crate::Codec::GzipCopy, 0, &mut Vec::new()).unwrap();
        let text = |entry: &Entry| match entry.content() {
            Some(Content::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        let files = tree.iter().filter(|(_, entry)| !entry.is_directory());
        let short = |path: &TreePath| path.to_string().replace("/opt/venv/lib/python3.11/site-packages", "~");
        files.map(|(path, entry)| (short(path), text(entry))).collect()
    }

    fn wheel() -> Wheel {
        Wheel::new()
            .file("demo/__init__.py", "")
            .file("demo/_core.so", "compiled")
            .file("demo-1.0.dist-info/entry_points.txt", "[console_scripts]\ndemo = demo:main\n")
    }

    #[test]
    fn modules_are_those_of_the_sources() {
        let installed = installed(wheel());
        let files: Vec<_> = installed.keys().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                "/app/src/demo/_core.so",
                "/opt/venv/bin/demo",
                "~/__editable__.demo-1.0.pth",
                "~/demo-1.0.dist-info/INSTALLER",
                "~/demo-1.0.dist-info/METADATA",
                "~/demo-1.0.dist-info/RECORD",
                "~/demo-1.0.dist-info/REQUESTED",
                "~/demo-1.0.dist-info/WHEEL",
                "~/demo-1.0.dist-info/direct_url.json",
                "~/demo-1.0.dist-info/entry_points.txt",
            ]
        );
        assert_eq!(installed["~/__editable__.demo-1.0.pth"], "/app/src\n");
        let url = r#"{"dir_info":{"editable":true},"url":"file:///app/src"}"#;
        assert_eq!(installed["~/demo-1.0.dist-info/direct_url.json"], url);
    }

    /// What an uninstallation removes is in the environment.
    #[test]
    fn the_record_has_nothing_of_the_sources() {
        let installed = installed(wheel());
        let record = &installed["~/demo-1.0.dist-info/RECORD"];
        let listed: Vec<_> = record.lines().filter_map(|line| line.split(',').next()).collect();
        assert_eq!(
            listed,
            [
                "../../../bin/demo",
                "__editable__.demo-1.0.pth",
                "demo-1.0.dist-info/INSTALLER",
                "demo-1.0.dist-info/METADATA",
                "demo-1.0.dist-info/RECORD",
                "demo-1.0.dist-info/REQUESTED",
                "demo-1.0.dist-info/WHEEL",
                "demo-1.0.dist-info/direct_url.json",
                "demo-1.0.dist-info/entry_points.txt",
            ]
        );
        assert!(record.contains("\ndemo-1.0.dist-info/RECORD,,\n"), "{record}");
        assert!(installed.contains_key("/app/src/demo/_core.so"));
    }
}
