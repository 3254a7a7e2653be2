//! A package's control information: its stanza, its files below `var/lib/dpkg/info`, and what a base needs of it.

use std::collections::{BTreeMap, BTreeSet};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use super::{MAX_SEED, Problem, read_whole};
use crate::tree::{Content, Entry, TreePath};

/// What the base's database is made from: of each package the little that does not lie in its own layer.
///
/// It can be stored beside the package's layer, so that a base of layers that are there already needs no package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// `Package`.
    pub name: String,
    /// `Version`.
    pub version: String,
    /// `Architecture`.
    pub architecture: String,
    /// The fields of the stanza, in the package's order; a folded value with its line breaks and indentation.
    pub(crate) fields: Vec<(String, String)>,
    /// Whether scripts would have run while it was installed.
    pub(crate) has_scripts: bool,
    /// Paths with the MD5 of the package's content, in the package's order.
    pub(crate) conffiles: Vec<(String, String)>,
    /// The triggers that it waits for: paths or names, and whether the one who triggers need not wait.
    pub(crate) interests: Vec<(String, bool)>,
    /// Files that a base's own files are made from, by path.
    pub(crate) seeds: BTreeMap<String, String>,
}

/// dpkg's own limit for a stanza is smaller.
const MAX_STANZA: u64 = 4 << 20;

/// Whether a name of `control.tar` is one that dpkg puts into its `info` folder: any but those that it would itself
/// overwrite (`list`), as long as it is a plain word.
pub(super) fn is_part(name: &str) -> bool {
    name != "list"
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte.is_ascii_digit())
}

impl Control {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The name by which dpkg's files speak of it: with its architecture where several may be installed beside each
    /// other.
    pub(crate) fn database_name(&self) -> String {
        match self.field("Multi-Arch") {
            Some("same") => format!("{}:{}", self.name, self.architecture),
            _ => self.name.clone(),
        }
    }
}

/// Reads the parts of `control.tar`; returns also the files of dpkg's database that are the package's own.
pub(super) fn read(
    mut parts: BTreeMap<String, Entry>,
    list: &str,
    files: &[(String, Entry)],
) -> Result<(Control, Vec<(TreePath, Entry)>), Problem> {
    let wrong = |reason: String| Problem::Control { reason };
    let text = |entry: &Entry, name: &str| {
        String::from_utf8(read_whole(entry, MAX_STANZA)?).map_err(|_| wrong(format!("`{name}` is not UTF-8")))
    };
    let stanza = parts.remove("control").ok_or_else(|| wrong("there is no `control`".to_owned()))?;
    let fields = stanza_fields(&text(&stanza, "control")?)?;
    let field = |name: &str, allowed: &[u8]| {
        let found = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = found.map(|(_, value)| value.as_str()).unwrap_or_default();
        let good = value.starts_with(|first: char| first.is_ascii_alphanumeric())
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || allowed.contains(&byte));
        if good {
            Ok(value.to_owned())
        } else {
            Err(wrong(format!("`{name}: {}` is not allowed", value.escape_debug())))
        }
    };
    let mut control = Control {
        name: field("Package", b"+-._")?,
        version: field("Version", b"+-.~:_")?,
        architecture: field("Architecture", b"-")?,
        has_scripts: parts.contains_key("preinst") || parts.contains_key("postinst"),
        conffiles: Vec::new(),
        interests: Vec::new(),
        seeds: BTreeMap::new(),
        fields: Vec::new(),
    };
    control.fields = fields;

    let by_name: BTreeMap<&str, &Entry> = files.iter().map(|(name, entry)| (name.as_str(), entry)).collect();
    if let Some(conffiles) = parts.get("conffiles") {
        for path in text(conffiles, "conffiles")?.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            // `remove-on-upgrade /path` speaks of a file that the package has no more.
            let Some(name) = path.strip_prefix('/') else { continue };
            if let Some(entry) = by_name.get(name) {
                control.conffiles.push((path.to_owned(), md5(entry)?));
            }
        }
    }
    if let Some(triggers) = parts.get("triggers") {
        control.interests = interests(&text(triggers, "triggers")?);
    }
    for (name, entry) in files.iter().filter(|(name, _)| is_seed(name)) {
        if let Ok(content) = String::from_utf8(read_whole(entry, MAX_SEED)?) {
            control.seeds.insert(name.clone(), content);
        }
    }

    let mut info = vec![("list".to_owned(), Entry::bytes(list.as_bytes(), false))];
    if !parts.contains_key("md5sums") {
        info.push(("md5sums".to_owned(), Entry::bytes(md5sums(&control, files)?.into_bytes(), false)));
    }
    info.extend(parts);
    let name = control.database_name();
    let path = |part: &str| TreePath::new(&format!("var/lib/dpkg/info/{name}.{part}"));
    let info =
        info.into_iter().map(|(part, entry)| Ok((path(&part)?, entry))).collect::<Result<_, Problem>>()?;
    Ok((control, info))
}

/// The fields of the one stanza of a `control` file.
fn stanza_fields(text: &str) -> Result<Vec<(String, String)>, Problem> {
    let wrong = |line: &str| Problem::Control { reason: format!("`{}` is no field", line.escape_debug()) };
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.trim_matches('\n').lines().map(str::trim_end) {
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut().ok_or_else(|| wrong(line))?;
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(':').ok_or_else(|| wrong(line))?;
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_name || fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name)) {
                return Err(wrong(line));
            }
            fields.push((name.to_owned(), value.trim_start().to_owned()));
        }
    }
    Ok(fields)
}

/// The `interest` lines of a `triggers` file (`deb-triggers(5)`).
fn interests(text: &str) -> Vec<(String, bool)> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (kind, trigger) = (words.next()?, words.next()?);
        match kind {
            "interest" | "interest-await" => Some((trigger.to_owned(), false)),
            "interest-noawait" => Some((trigger.to_owned(), true)),
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}

/// Whether a base's own files are made from a file.
fn is_seed(name: &str) -> bool {
    name.starts_with("usr/share/ca-certificates/") && name.ends_with(".crt")
        || name.starts_with("usr/share/base-files/")
        || matches!(
            name,
            "usr/share/base-passwd/passwd.master"
                | "usr/share/base-passwd/group.master"
                | "usr/share/libc-bin/nsswitch.conf"
        )
}

/// `md5sums` as dpkg makes it for a package that has none: of all files but the conffiles.
fn md5sums(control: &Control, files: &[(String, Entry)]) -> Result<String, Problem> {
    let conffiles: BTreeSet<&str> =
        control.conffiles.iter().filter_map(|(path, _)| path.strip_prefix('/')).collect();
    let mut text = String::new();
    for (name, entry) in files.iter().filter(|(name, _)| !conffiles.contains(name.as_str())) {
        text.push_str(&format!("{}  {name}\n", md5(entry)?));
    }
    Ok(text)
}

/// MD5 is what dpkg's formats have; nothing here trusts it.
fn md5(entry: &Entry) -> Result<String, Problem> {
    let Some(Content::Range { source, offset, len, .. }) = entry.content() else { return Ok(String::new()) };
    let (mut hasher, mut at, end) = (Md5::new(), *offset, offset + len);
    let mut buffer = vec![0; 64 << 10];
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        source.read_exact_at(piece, at).map_err(Problem::Read)?;
        hasher.update(&*piece);
        at += wanted as u64;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
