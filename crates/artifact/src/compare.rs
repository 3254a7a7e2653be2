//! What makes two wheels different: for a build that should have given the same bytes twice.

use std::collections::BTreeMap;
use std::fmt;

use imgforge_layer::Source;
use imgforge_layer::zip::{self, Kind, Limits};
use imgforge_oci::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// Compares the files of two wheels by name, content and executable bit; the differences, by name.
///
/// How an archive is made (order, times, compression) does not count: two wheels without a difference may have other bytes
/// all the same, before they are [made anew](crate::rewheel()). Both are read whole, in constant memory.
///
/// # Errors
/// [`zip::Error`], for an archive that is not well-formed, or damaged.
pub fn compare(first: &Source, second: &Source) -> Result<Vec<Difference>, zip::Error> {
    let (mut first, mut second) = (members(first)?, members(second)?);
    let names: Vec<String> =
        first.keys().chain(second.keys().filter(|name| !first.contains_key(*name))).cloned().collect();
    let mut differences: Vec<_> = names
        .into_iter()
        .map(|name| Difference { first: first.remove(&name), second: second.remove(&name), name })
        .filter(|difference| difference.first != difference.second)
        .collect();
    differences.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(differences)
}

/// A file that is in one wheel and not in the other, or not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its name in the archive.
    pub name: String,
    /// What it is in the first wheel, if it is there.
    pub first: Option<Member>,
    /// What it is in the second, if it is there.
    pub second: Option<Member>,
}

/// A file of a wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Digest,
    /// Whether anybody may execute it.
    pub executable: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, first, second } = self;
        match (first, second) {
            (Some(first), Some(second)) => write!(f, "{name}: {first} and {second}"),
            (Some(member), None) => write!(f, "{name}: {member}, only in the first"),
            (None, Some(member)) => write!(f, "{name}: {member}, only in the second"),
            (None, None) => write!(f, "{name}: in neither"),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executable = if self.executable { ", executable" } else { "" };
        write!(f, "{} bytes, {}{executable}", self.size, self.sha256)
    }
}

/// Files by name; folders are what files imply.
fn members(source: &Source) -> Result<BTreeMap<String, Member>, zip::Error> {
    let mut members = BTreeMap::new();
    for entry in zip::read_directory(source, &Limits::default())? {
        if entry.kind == Kind::Directory {
            continue;
        }
        let mut hasher = Hasher::new();
        zip::read(source, &entry, &mut |piece| {
            hasher.update(piece);
            Ok::<_, zip::Error>(())
        })?;
        let executable = entry.mode.is_some_and(|mode| mode & 0o111 != 0);
        members.insert(entry.name, Member { size: entry.size, sha256: hasher.finish(), executable });
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use ::zip::ZipWriter;
    use ::zip::write::SimpleFileOptions;

    use super::*;

    /// Files with their modes and contents, in this order.
    fn wheel(files: &[(&str, u32, &str)]) -> Source {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, mode, content) in files {
            let options = SimpleFileOptions::default().unix_permissions(*mode);
            if name.ends_with('/') {
                archive.add_directory(*name, options).unwrap();
            } else {
                archive.start_file(*name, options).unwrap();
                archive.write_all(content.as_bytes()).unwrap();
            }
        }
        Source::from_bytes(archive.finish().unwrap().into_inner(), "x.whl")
    }

    fn check(first: &[(&str, u32, &str)], second: &[(&str, u32, &str)], expected: &[&str]) {
        let found = compare(&wheel(first), &wheel(second)).unwrap();
        let found: Vec<_> = found.iter().map(|difference| shorten(&difference.to_string())).collect();
        assert_eq!(found, expected);
    }

    /// Digests by their first four digits.
    fn shorten(text: &str) -> String {
        let mut words = text.split(' ').map(|word| match word.strip_prefix("sha256:") {
            Some(digest) => format!("#{}{}", &digest[..4], &digest[64..]),
            None => word.to_owned(),
        });
        words.by_ref().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_differs() {
        let (a, b) = (("a", 0o644, "1"), ("b/c", 0o644, "2"));
        check(&[a, b], &[b, a], &[]);
        check(&[a, ("b/", 0o755, "")], &[("a", 0o600, "1")], &[]);
        check(&[a], &[("a", 0o755, "1")], &["a: 1 bytes, #6b86 and 1 bytes, #6b86, executable"]);
        check(
            &[a, b],
            &[("a", 0o644, "10")],
            &["a: 1 bytes, #6b86 and 2 bytes, #4a44", "b/c: 1 bytes, #d473, only in the first"],
        );
        check(&[], &[a], &["a: 1 bytes, #6b86, only in the second"]);
    }

    #[test]
    fn what_is_no_wheel() {
        let other = Source::from_bytes(b"PK".to_vec(), "x.whl");
        assert!(compare(&wheel(&[]), &other).is_err());
        assert!(compare(&other, &wheel(&[])).is_err());
    }
}
