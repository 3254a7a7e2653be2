//! RECORD: which files a distribution has, with their hashes (PyPA, "Recording installed projects").

use std::collections::{BTreeMap, HashMap};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use imgforge_oci::Digest;
use sha2::{Digest as _, Sha384, Sha512};

/// Why a RECORD can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no table of three columns.
    #[error("RECORD, line {line}: expected `PATH,HASH,SIZE`")]
    Line {
        /// Counted from 1.
        line: u64,
    },
    /// A hash that can't be read, or of a kind that is forbidden (MD5, SHA-1) or unknown.
    #[error("RECORD has hash `{hash}` for {path}; sha256, sha384 and sha512 can be verified")]
    Hash {
        /// As RECORD has it.
        path: String,
        /// As RECORD has it.
        hash: String,
    },
    /// One path twice with different hashes.
    #[error("RECORD has {path} twice, with different hashes")]
    Twice {
        /// As RECORD has it.
        path: String,
    },
    /// The content is not what RECORD says.
    #[error("{path}: the content is {actual}, RECORD says {expected}")]
    Mismatch {
        /// The entry's name in the archive.
        path: String,
        /// RECORD's hash.
        expected: String,
        /// The content's.
        actual: String,
    },
}

/// A RECORD as the wheel has it, by path.
pub(super) struct Record {
    lines: HashMap<String, Hash>,
}

/// The part of a line after the path, as it is written; both empty for RECORD itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    hash: String,
    size: String,
}

#[derive(Clone, PartialEq, Eq)]
enum Hash {
    None,
    Sha256(Digest),
    Other { kind: Other, value: Vec<u8>, text: String },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Other {
    Sha384,
    Sha512,
}

impl Record {
    /// Reads the table.
    pub(super) fn parse(text: &str) -> Result<Self, RecordError> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let mut lines = HashMap::new();
        for (number, record) in reader.records().enumerate() {
            let line = number as u64 + 1;
            let record = record.map_err(|_| RecordError::Line { line })?;
            let (Some(path), Some(hash), true) = (record.get(0), record.get(1), record.len() == 3) else {
                return Err(RecordError::Line { line });
            };
            // Some tools write absolute paths, some start with `./`.
            let path = path.trim_start_matches('/');
            let path = path.strip_prefix("./").unwrap_or(path);
            let hash = parse_hash(path, hash)?;
            if lines.insert(path.to_owned(), hash.clone()).is_some_and(|before| before != hash) {
                return Err(RecordError::Twice { path: path.to_owned() });
            }
        }
        Ok(Self { lines })
    }

    /// The SHA-256 of a file, where RECORD has one.
    pub(super) fn sha256(&self, name: &str) -> Option<Digest> {
        match self.lines.get(name)? {
            Hash::Sha256(digest) => Some(*digest),
            _ => None,
        }
    }

    /// A hasher for a file of which RECORD has another hash.
    pub(super) fn other_hash(&self, name: &str) -> Result<Option<OtherHasher>, RecordError> {
        Ok(match self.lines.get(name) {
            Some(Hash::Other { kind, value, text }) => {
                let state = match kind {
                    Other::Sha384 => State::Sha384(Sha384::new()),
                    Other::Sha512 => State::Sha512(Sha512::new()),
                };
                Some(OtherHasher { state, expected: value.clone(), text: text.clone() })
            }
            _ => None,
        })
    }

    /// The line for an installed file: RECORD's own hash, or `digest` where it has none.
    pub(super) fn line(&self, name: &str, digest: Digest, size: u64) -> Line {
        match self.lines.get(name) {
            Some(Hash::Other { text, .. }) => Line { hash: text.clone(), size: size.to_string() },
            _ => Line::of(digest, size),
        }
    }
}

impl Line {
    /// A line of a file with this SHA-256.
    pub(super) fn of(digest: Digest, size: u64) -> Self {
        let hash = format!("sha256={}", BASE64URL_NOPAD.encode(digest.as_bytes()));
        Self { hash, size: size.to_string() }
    }
}

/// Hashes a file with another algorithm than SHA-256.
pub(super) struct OtherHasher {
    state: State,
    expected: Vec<u8>,
    text: String,
}

enum State {
    Sha384(Sha384),
    Sha512(Sha512),
}

impl OtherHasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha384(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    pub(super) fn check(self, name: &str) -> Result<(), RecordError> {
        let (kind, actual) = match self.state {
            State::Sha384(state) => ("sha384", state.finalize().to_vec()),
            State::Sha512(state) => ("sha512", state.finalize().to_vec()),
        };
        if actual == self.expected {
            return Ok(());
        }
        let actual = format!("{kind}={}", BASE64URL_NOPAD.encode(&actual));
        Err(RecordError::Mismatch { path: name.to_owned(), expected: self.text, actual })
    }
}

/// Compares RECORD's SHA-256 with that of content in memory.
pub(super) fn check_digest(name: &str, expected: Digest, actual: Digest) -> Result<(), RecordError> {
    if expected == actual {
        return Ok(());
    }
    let (expected, actual) = (expected.to_string(), actual.to_string());
    Err(RecordError::Mismatch { path: name.to_owned(), expected, actual })
}

/// The table as text: by path, each line ended by a newline, quoted only where needed.
pub(super) fn write(lines: &BTreeMap<String, Line>) -> Result<Vec<u8>, RecordError> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for (number, (path, line)) in lines.iter().enumerate() {
        writer
            .write_record([path, &line.hash, &line.size])
            .map_err(|_| RecordError::Line { line: number as u64 + 1 })?;
    }
    writer.into_inner().map_err(|_| RecordError::Line { line: 0 })
}

/// The lines of a table that [`write`] made, by path.
pub(super) fn lines(text: &str) -> Result<BTreeMap<String, Line>, RecordError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let mut lines = BTreeMap::new();
    for (number, record) in reader.records().enumerate() {
        let line = number as u64 + 1;
        let record = record.map_err(|_| RecordError::Line { line })?;
        let (Some(path), Some(hash), Some(size)) = (record.get(0), record.get(1), record.get(2)) else {
            return Err(RecordError::Line { line });
        };
        lines.insert(path.to_owned(), Line { hash: hash.to_owned(), size: size.to_owned() });
    }
    Ok(lines)
}

/// A path below the prefix as RECORD writes it: relative to site-packages.
pub(super) fn relative(path: &str, site_packages: &str) -> String {
    if let Some(inside) = path.strip_prefix(site_packages).and_then(|rest| rest.strip_prefix('/')) {
        return inside.to_owned();
    }
    let folders: Vec<&str> = site_packages.split('/').collect();
    let common = folders.iter().zip(path.split('/')).take_while(|(a, b)| *a == b).count();
    let up = "../".repeat(folders.len() - common);
    let rest: Vec<&str> = path.split('/').skip(common).collect();
    format!("{up}{}", rest.join("/"))
}

fn parse_hash(path: &str, text: &str) -> Result<Hash, RecordError> {
    if text.is_empty() {
        return Ok(Hash::None);
    }
    let error = || RecordError::Hash { path: path.to_owned(), hash: text.to_owned() };
    let (algorithm, value) = text.split_once('=').ok_or_else(error)?;
    // flit before 0.2 wrote hexadecimal digits; no SHA-256 in base64 is as long.
    if let ("sha256", 64, Ok(bytes)) = (algorithm, value.len(), HEXLOWER.decode(value.as_bytes())) {
        return Ok(Hash::Sha256(Digest::from_bytes(bytes.try_into().map_err(|_| error())?)));
    }
    let value = BASE64URL_NOPAD.decode(value.trim_end_matches('=').as_bytes()).map_err(|_| error())?;
    let other = |kind, len| match value.len() == len {
        true => Ok(Hash::Other { kind, value: value.clone(), text: text.to_owned() }),
        false => Err(error()),
    };
    match algorithm {
        "sha256" => Ok(Hash::Sha256(Digest::from_bytes(value.try_into().map_err(|_| error())?))),
        "sha384" => other(Other::Sha384, 48),
        "sha512" => other(Other::Sha512, 64),
        _ => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_site_packages() {
        let site = "lib/python3.11/site-packages";
        assert_eq!(relative("lib/python3.11/site-packages/a/b", site), "a/b");
        assert_eq!(relative("bin/x", site), "../../../bin/x");
        assert_eq!(relative("lib/python3.11/extra", site), "../extra");
        assert_eq!(relative("lib/python3.11/site-packages2/x", site), "../site-packages2/x");
    }

    #[test]
    fn refuses_what_can_not_be_verified() {
        let sha256 = format!("sha256={}", BASE64URL_NOPAD.encode(&[0; 32]));
        for (text, refused) in [
            (format!("a,{sha256},1\n"), false),
            ("a,,\n".to_owned(), false),
            ("\"a,b\",,\n".to_owned(), false),
            ("a,md5=AAAA,1\n".to_owned(), true),
            ("a,sha256=AAAA,1\n".to_owned(), true),
            ("a,sha256,1\n".to_owned(), true),
            ("a,b\n".to_owned(), true),
            (format!("a,{sha256},1\na,,\n"), true),
        ] {
            assert_eq!(Record::parse(&text).is_err(), refused, "{text}");
        }
    }
}
