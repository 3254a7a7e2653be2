//! A suite's signed index: what the archive says that it has.

use std::collections::BTreeMap;

use crate::Error;
use crate::control::{Stanza, stanzas};
use crate::date::{format_date, parse_date};
use crate::keyring::{CLOCK_SKEW, Freshness, Keyring, verify_cleartext};
use crate::packages::{Compression, IndexFile};

/// What a verified InRelease says.
#[derive(Clone, Debug)]
pub struct Release {
    /// `Origin`: `Debian`.
    pub origin: String,
    /// `Suite`: `stable`, `oldstable-security`. It changes when Debian releases; [`codename`](Self::codename) does not.
    pub suite: String,
    /// `Codename`: `bookworm`.
    pub codename: String,
    /// `Version`: `12.15`; empty where the archive has none.
    pub version: String,
    /// `Date`, in seconds since 1970.
    pub date: u64,
    /// `Components`, as the archive has them: `updates/main` in Debian's security archive.
    pub components: Vec<String>,
    /// `Architectures`.
    pub architectures: Vec<String>,
    /// Fingerprints of the keys of the keyring whose signatures count, upper-case hexadecimal.
    pub signed_by: Vec<String>,
    acquire_by_hash: bool,
    separate_all: bool,
    files: BTreeMap<String, (String, u64)>,
}

/// Verifies an InRelease file and reads the text that was signed, and only that.
///
/// # Errors
/// [`Error::NotSigned`] for anything around the signed text; [`Error::Untrusted`] without a good signature by a key that
/// was valid; [`Error::Expired`] and [`Error::NotYetValid`] for the archive's dates; [`Error::Control`] for text that
/// does not read.
pub fn verify_in_release(
    in_release: &[u8],
    keyring: &Keyring,
    freshness: Freshness,
) -> Result<Release, Error> {
    let (text, signed_by) = verify_cleartext(in_release, keyring, freshness)?;
    let mut release = Release::parse(&text, freshness)?;
    release.signed_by = signed_by;
    Ok(release)
}

const FILE: &str = "InRelease";

impl Release {
    fn parse(text: &str, freshness: Freshness) -> Result<Self, Error> {
        let mut all = stanzas(FILE, text);
        let stanza = all.next().transpose()?.unwrap_or_default();
        if all.next().is_some() {
            return Err(Error::control(FILE, stanza.line, "there is more than one stanza".to_owned()));
        }
        let field = |name: &str| stanza.get(name).unwrap_or_default().to_owned();
        let words = |name: &str| field(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (suite, codename) = (field("Suite"), field("Codename"));
        let name = if codename.is_empty() { suite.clone() } else { codename.clone() };
        let date = Self::check_dates(&stanza, &name, freshness)?;
        let architectures = words("Architectures");
        let no_all = words("No-Support-for-Architecture-all").iter().any(|word| word == "Packages");
        Ok(Self {
            origin: field("Origin"),
            version: field("Version"),
            date,
            components: words("Components"),
            signed_by: Vec::new(),
            acquire_by_hash: field("Acquire-By-Hash").eq_ignore_ascii_case("yes"),
            separate_all: !no_all && architectures.iter().any(|architecture| architecture == "all"),
            files: Self::parse_table(&stanza)?,
            suite,
            codename,
            architectures,
        })
    }

    fn check_dates(stanza: &Stanza<'_>, suite: &str, freshness: Freshness) -> Result<u64, Error> {
        let read = |name: &str, text: &str| {
            let wrong = || Error::control(FILE, stanza.line, format!("`{name}: {text}` is no date in UTC"));
            parse_date(text).ok_or_else(wrong)
        };
        let date_text = stanza.require(FILE, "Date")?;
        let date = read("Date", date_text)?;
        let valid_until =
            stanza.get("Valid-Until").map(|text| Ok((text, read("Valid-Until", text)?))).transpose()?;
        if let Freshness::At(now) = freshness {
            let suite = suite.to_owned();
            if date > now.saturating_add(CLOCK_SKEW) {
                return Err(Error::NotYetValid { suite, date: date_text.to_owned(), now: format_date(now) });
            }
            if let Some((text, end)) = valid_until
                && end <= now
            {
                return Err(Error::Expired { suite, valid_until: text.to_owned(), now: format_date(now) });
            }
        }
        Ok(date)
    }

    /// Reads the lines `digest size path` of `SHA256`; weaker tables are not looked at.
    fn parse_table(stanza: &Stanza<'_>) -> Result<BTreeMap<String, (String, u64)>, Error> {
        let mut files = BTreeMap::new();
        for line in stanza.require(FILE, "SHA256")?.lines().filter(|line| !line.trim().is_empty()) {
            let wrong = |reason: &str| {
                Error::control(FILE, stanza.line, format!("`{}` in SHA256: {reason}", line.trim()))
            };
            let mut words = line.split_whitespace();
            let (Some(digest), Some(size), Some(path), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(wrong("it is not `digest size path`"));
            };
            let size = size.parse().map_err(|_| wrong("the size is no number"))?;
            if !is_sha256(digest) {
                return Err(wrong("the digest is not 64 lower-case hexadecimal digits"));
            }
            if !is_relative_path(path) {
                return Err(wrong("the path leaves the suite's folder"));
            }
            let entry = (digest.to_owned(), size);
            if files.insert(path.to_owned(), entry.clone()).is_some_and(|earlier| earlier != entry) {
                return Err(wrong("the path is listed twice, differently"));
            }
        }
        Ok(files)
    }

    /// The suite's own name for messages: its codename, else its suite.
    pub fn name(&self) -> &str {
        if self.codename.is_empty() { &self.suite } else { &self.codename }
    }

    /// The digest (hexadecimal) and size of a file in the suite's folder.
    pub fn file(&self, path: &str) -> Option<(&str, u64)> {
        self.files.get(path).map(|(digest, size)| (digest.as_str(), *size))
    }

    /// The package indexes of a component: the architecture's, and that of architecture `all` where the archive keeps it
    /// apart. An archive without components (`deb URI path/`) has one index; `component` is empty for it.
    ///
    /// # Errors
    /// [`Error::NoIndex`] if the suite does not have the component or the architecture.
    pub fn packages(&self, component: &str, architecture: &str) -> Result<Vec<IndexFile>, Error> {
        // Debian's security archive says `updates/main` of what it keeps under `main`.
        let folder = component.rsplit('/').next().unwrap_or_default();
        let folder = if component.starts_with("updates/") { folder } else { component };
        let path = |architecture: &str| match folder {
            "" => "Packages".to_owned(),
            folder => format!("{folder}/binary-{architecture}/Packages"),
        };
        let own = self.index(&path(architecture));
        let all = if self.separate_all && !folder.is_empty() { self.index(&path("all")) } else { None };
        if own.is_none() {
            return Err(Error::NoIndex {
                suite: self.name().to_owned(),
                component: component.to_owned(),
                architecture: architecture.to_owned(),
                components: self.components.clone().into(),
                architectures: self.architectures.clone().into(),
            });
        }
        Ok(own.into_iter().chain(all).collect())
    }

    /// The smallest form that the archive keeps of an index, which is xz where there is one.
    fn index(&self, path: &str) -> Option<IndexFile> {
        let plain = self.file(path);
        Compression::BEST_FIRST.iter().find_map(|compression| {
            let listed = format!("{path}{}", compression.extension());
            let (sha256, size) = self.file(&listed)?;
            let folder = path.strip_suffix("Packages").unwrap_or_default();
            // By-hash names survive the mirror's next update; the plain name would then fail its check.
            let by_hash = self.acquire_by_hash.then(|| format!("{folder}by-hash/SHA256/{sha256}"));
            Some(IndexFile {
                path: by_hash.unwrap_or_else(|| listed.clone()),
                file: listed,
                compression: *compression,
                sha256: sha256.to_owned(),
                size,
                plain: plain.map(|(sha256, size)| (sha256.to_owned(), size)),
            })
        })
    }
}

pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a path of an index stays below the folder that it is relative to.
pub(crate) fn is_relative_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\?#".contains(&byte);
    !path.is_empty()
        && path.bytes().all(plain)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}
