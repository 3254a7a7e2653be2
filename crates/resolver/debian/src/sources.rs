//! apt's sources: which archives a Debian host uses, and which key it trusts for each.
//!
//! Read so that `debian = "bookworm"` needs neither mirror nor keyring on a Debian host. Both of apt's formats are read:
//! one line per archive (`sources.list`, `*.list`) and deb822 (`*.sources`). What is left out on purpose: `deb-src`,
//! and `trusted=yes`, because nothing here is taken unverified. Source: `sources.list(5)`.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::control::stanzas;
use crate::keyring::Keyring;

/// One archive that apt is told to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AptSource {
    /// The mirror, without a trailing slash.
    pub uri: String,
    /// `bookworm`, `bookworm-updates`; for an archive without components the path of its folder, ending with `/`.
    pub suites: Vec<String>,
    /// `main`, `contrib`; none for a suite that ends with `/`.
    pub components: Vec<String>,
    /// The architectures that the source is limited to; empty for all that apt is configured for.
    pub architectures: Vec<String>,
    /// Whose signature counts.
    pub signed_by: SignedBy,
    /// False for a stanza with `Enabled: no`.
    pub enabled: bool,
}

/// Whose signature apt accepts for a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SignedBy {
    /// Any key of `/etc/apt/trusted.gpg` and `/etc/apt/trusted.gpg.d`.
    #[default]
    Trusted,
    /// Keyring files, absolute.
    Files(Vec<PathBuf>),
    /// Keys of the trusted ones, by fingerprint.
    Fingerprints(Vec<String>),
    /// The key itself, armoured.
    Key(String),
}

/// Reads a file in the one-line format: `deb [option=value …] URI SUITE COMPONENT…`. `file` names it in errors.
///
/// # Errors
/// [`Error::Control`] with the line.
pub fn parse_sources_list(file: &str, text: &str) -> Result<Vec<AptSource>, Error> {
    let mut sources = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let wrong = |reason: &str| Error::control(file, number + 1, reason.to_owned());
        let Some((kind, rest)) = line.split_once(char::is_whitespace) else {
            if line.is_empty() {
                continue;
            }
            return Err(wrong("the line is not `deb URI SUITE COMPONENT…`"));
        };
        match kind {
            "deb" => {}
            "deb-src" => continue,
            _ => return Err(wrong("the line starts with neither `deb` nor `deb-src`")),
        }
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| wrong("`]` is missing behind the options"))?,
            None => ("", rest),
        };
        let mut source = AptSource {
            uri: String::new(),
            suites: Vec::new(),
            components: Vec::new(),
            architectures: Vec::new(),
            signed_by: SignedBy::Trusted,
            enabled: true,
        };
        for option in options.split_whitespace() {
            match option.split_once('=') {
                Some(("arch", value)) => source.architectures = value.split(',').map(str::to_owned).collect(),
                Some(("signed-by", value)) => source.signed_by = signed_by(&value.replace(',', " ")),
                Some(_) => {}
                None => return Err(wrong("an option is not `name=value`")),
            }
        }
        let mut words = rest.split_whitespace().map(str::to_owned);
        source.uri = words.next().ok_or_else(|| wrong("there is no URI"))?.trim_end_matches('/').to_owned();
        source.suites = vec![words.next().ok_or_else(|| wrong("there is no suite"))?];
        source.components = words.collect();
        check_components(&source).map_err(wrong)?;
        sources.push(source);
    }
    Ok(sources)
}

/// Reads a file in the deb822 format; a stanza with several URIs becomes several sources.
///
/// # Errors
/// [`Error::Control`] with the line.
pub fn parse_sources_deb822(file: &str, text: &str) -> Result<Vec<AptSource>, Error> {
    let mut sources = Vec::new();
    for stanza in stanzas(file, text) {
        let stanza = stanza?;
        // A comment may stand between the lines of a folded value.
        let field = |name: &str| {
            let lines = stanza.get(name).unwrap_or_default().lines().filter(|line| !line.starts_with('#'));
            lines.collect::<Vec<_>>().join("\n")
        };
        let words = |name: &str| field(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if !words("Types").iter().any(|kind| kind == "deb") {
            stanza.require(file, "Types")?;
            continue;
        }
        stanza.require(file, "URIs")?;
        stanza.require(file, "Suites")?;
        for uri in words("URIs") {
            let source = AptSource {
                uri: uri.trim_end_matches('/').to_owned(),
                suites: words("Suites"),
                components: words("Components"),
                architectures: words("Architectures"),
                signed_by: signed_by(&field("Signed-By")),
                enabled: !matches!(
                    field("Enabled").as_str(),
                    "no" | "false" | "0" | "off" | "without" | "disable"
                ),
            };
            check_components(&source)
                .map_err(|reason| Error::control(file, stanza.line, reason.to_owned()))?;
            sources.push(source);
        }
    }
    Ok(sources)
}

/// Reads the sources of the host whose root folder is `root` (`/`), in apt's order.
///
/// # Errors
/// [`Error::Io`] for a file that is there and cannot be read; [`Error::Control`] for one that does not parse. A host without
/// apt has no sources.
pub fn host_sources(root: &Path) -> Result<Vec<AptSource>, Error> {
    let mut sources = Vec::new();
    let mut files = vec![root.join("etc/apt/sources.list")];
    files.extend(folder(&root.join("etc/apt/sources.list.d"))?);
    for path in files {
        let parse = match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => parse_sources_list,
            Some("sources") => parse_sources_deb822,
            _ => continue,
        };
        let Some(bytes) = read(&path)? else { continue };
        sources.extend(parse(&path.display().to_string(), &String::from_utf8_lossy(&bytes))?);
    }
    Ok(sources)
}

/// Reads the keys that apt on the host whose root folder is `root` would accept for a source.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read; [`Error::Keyring`] if there is no key.
pub fn host_keyring(root: &Path, signed_by: &SignedBy) -> Result<Keyring, Error> {
    let below_root = |path: &PathBuf| root.join(path.strip_prefix("/").unwrap_or(path));
    let paths = match signed_by {
        SignedBy::Key(key) => return Keyring::parse(key.as_bytes()),
        SignedBy::Files(paths) => paths.iter().map(below_root).collect(),
        SignedBy::Trusted | SignedBy::Fingerprints(_) => {
            let mut paths = folder(&root.join("etc/apt/trusted.gpg.d"))?;
            paths.retain(|path| {
                path.extension().is_some_and(|extension| extension == "gpg" || extension == "asc")
            });
            paths.insert(0, root.join("etc/apt/trusted.gpg"));
            paths
        }
    };
    let mut keyring: Option<Keyring> = None;
    for path in &paths {
        let Some(bytes) = read(path)?.filter(|bytes| !bytes.is_empty()) else { continue };
        let parsed = Keyring::parse(&bytes)?;
        match &mut keyring {
            Some(keyring) => keyring.extend(parsed),
            None => keyring = Some(parsed),
        }
    }
    let listed = || paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let mut keyring = keyring
        .ok_or_else(|| Error::Keyring { reason: format!("there is no key in any of {}", listed()) })?;
    if let SignedBy::Fingerprints(fingerprints) = signed_by {
        keyring.retain_fingerprints(fingerprints);
    }
    Ok(keyring)
}

fn signed_by(value: &str) -> SignedBy {
    if value.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        // In a control file an empty line is ` .`, and every line is indented.
        let line = |line: &str| if line.trim() == "." { String::new() } else { line.trim().to_owned() };
        return SignedBy::Key(
            value.lines().map(line).collect::<Vec<_>>().join("\n").trim().to_owned() + "\n",
        );
    }
    let words: Vec<&str> = value.split_whitespace().collect();
    match words.first() {
        None => SignedBy::Trusted,
        Some(first) if first.starts_with('/') => SignedBy::Files(words.iter().map(PathBuf::from).collect()),
        Some(_) => SignedBy::Fingerprints(words.iter().map(|word| (*word).to_owned()).collect()),
    }
}

fn check_components(source: &AptSource) -> Result<(), &'static str> {
    let exact = source.suites.iter().filter(|suite| suite.ends_with('/')).count();
    match (exact, source.components.is_empty()) {
        (0, false) => Ok(()),
        (0, true) => Err("there is no component"),
        (_, true) if exact == source.suites.len() => Ok(()),
        _ => Err("a suite that ends with `/` has no components"),
    }
}

/// The files of a folder, sorted; none if there is no folder.
fn folder(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let error = |source| Error::Io { path: path.to_owned(), source };
    let entries = match fs_err::read_dir(path) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(error)?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>().map_err(error)?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs_err::read(path) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some).map_err(|source| Error::Io { path: path.to_owned(), source }),
    }
}
