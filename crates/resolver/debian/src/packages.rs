//! `Packages` files: the packages of one component and architecture.

use std::io::Read;

use sha2::{Digest, Sha256};

use crate::Error;
use crate::control::{Stanza, stanzas};
use crate::relation::{is_architecture, is_package_name};
use crate::release::{is_relative_path, is_sha256};
use crate::version::is_version;

/// Where a suite keeps a package index, and what it must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// What to fetch, relative to the suite's folder (`MIRROR/dists/SUITE/`): a by-hash path where the archive has them.
    pub path: String,
    /// The same file's name in the Release: `main/binary-amd64/Packages.xz`.
    pub file: String,
    /// How it is compressed.
    pub compression: Compression,
    /// SHA-256 of the file as it is fetched, hexadecimal.
    pub sha256: String,
    /// Bytes of the file as it is fetched.
    pub size: u64,
    /// SHA-256 and bytes of the decompressed text, where the Release lists them (Debian's do).
    pub(crate) plain: Option<(String, u64)>,
}

/// How an index file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `.xz`
    Xz,
    /// `.gz`
    Gzip,
    /// No ending.
    None,
}

impl Compression {
    pub(crate) const BEST_FIRST: [Self; 3] = [Self::Xz, Self::Gzip, Self::None];

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Xz => ".xz",
            Self::Gzip => ".gz",
            Self::None => "",
        }
    }
}

/// Debian's largest (sid, main) has 60 MB.
const MAX_PLAIN: u64 = 1 << 30;
/// What xz may use for its dictionary; `xz -9` needs 64 MiB.
const MAX_XZ_MEMORY: u64 = 256 << 20;

impl IndexFile {
    /// Checks a fetched file against the Release and decompresses it; the text is checked too, and never grows beyond
    /// the size that the Release lists.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if bytes or text are not what the Release lists; [`Error::Decode`] for damaged streams.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        check(&self.file, bytes, &self.sha256, self.size)?;
        let limit = self.plain.as_ref().map_or(MAX_PLAIN, |(_, size)| *size);
        let decode_error = |source| Error::Decode { file: self.file.clone(), source };
        let mut text = Vec::new();
        let mut read = |reader: &mut dyn Read| reader.take(limit.saturating_add(1)).read_to_end(&mut text);
        match self.compression {
            Compression::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(MAX_XZ_MEMORY, liblzma::stream::CONCATENATED)
                        .map_err(|error| decode_error(error.into()))?;
                read(&mut liblzma::read::XzDecoder::new_stream(bytes, stream))
            }
            Compression::Gzip => read(&mut flate2::read::MultiGzDecoder::new(bytes)),
            Compression::None => read(&mut &*bytes),
        }
        .map_err(decode_error)?;
        let name = self.file.strip_suffix(self.compression.extension()).unwrap_or(&self.file);
        match &self.plain {
            Some((sha256, size)) => check(name, &text, sha256, *size)?,
            None if text.len() as u64 > limit => {
                let source = std::io::Error::other("the text is larger than 1 GiB");
                return Err(decode_error(source));
            }
            None => {}
        }
        Ok(text)
    }
}

fn check(file: &str, bytes: &[u8], sha256: &str, size: u64) -> Result<(), Error> {
    let actual: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if actual == sha256 && bytes.len() as u64 == size {
        return Ok(());
    }
    Err(Error::Mismatch {
        file: file.to_owned(),
        expected: sha256.to_owned(),
        expected_size: size,
        actual,
        actual_size: bytes.len() as u64,
    })
}

/// The packages of one `Packages` text, borrowed from it.
#[derive(Clone, Debug)]
pub struct Index<'a> {
    /// The caller's name for where the packages' paths are relative to: a mirror's URL, or its place in a list.
    pub source: &'a str,
    pub(crate) packages: Vec<Package<'a>>,
}

/// One package of an index, with the fields that a closure asks for.
#[derive(Clone, Debug)]
pub(crate) struct Package<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) architecture: &'a str,
    pub(crate) multi_arch: &'a str,
    pub(crate) priority: &'a str,
    pub(crate) essential: bool,
    pub(crate) pre_depends: &'a str,
    pub(crate) depends: &'a str,
    pub(crate) recommends: &'a str,
    pub(crate) provides: &'a str,
    pub(crate) conflicts: &'a str,
    pub(crate) breaks: &'a str,
    pub(crate) path: &'a str,
    pub(crate) sha256: &'a str,
    pub(crate) size: u64,
    pub(crate) source: &'a str,
    /// Where the stanza starts in the index.
    pub(crate) line: usize,
}

/// Reads a decompressed `Packages` file.
///
/// `source` is the caller's name for the mirror; a pinned package carries it. Relations are not parsed yet, but names,
/// versions, paths, digests and sizes are checked: what a closure returns is safe to put into a URL.
///
/// # Errors
/// [`Error::Control`] with the line for what does not read.
pub fn parse_packages<'a>(text: &'a [u8], source: &'a str) -> Result<Index<'a>, Error> {
    let wrong = |line: usize| Error::control(source, line, "the text is not UTF-8".to_owned());
    let text = std::str::from_utf8(text).map_err(|error| {
        let before = text.get(..error.valid_up_to()).unwrap_or_default();
        wrong(before.iter().filter(|byte| **byte == b'\n').count() + 1)
    })?;
    let packages =
        stanzas(source, text).map(|stanza| Package::read(&stanza?, source)).collect::<Result<_, _>>()?;
    Ok(Index { source, packages })
}

impl<'a> Package<'a> {
    fn read(stanza: &Stanza<'a>, source: &'a str) -> Result<Self, Error> {
        let checked = |name: &'static str, is_good: fn(&str) -> bool| {
            let value = stanza.require(source, name)?;
            let wrong = || Error::control(source, stanza.line, format!("`{name}: {value}` is not allowed"));
            if is_good(value) { Ok(value) } else { Err(wrong()) }
        };
        let optional = |name: &str| stanza.get(name).unwrap_or_default();
        let size = checked("Size", |size| size.parse::<u64>().is_ok())?.parse().unwrap_or_default();
        // Archives without a pool (`deb URI ./`) write their paths with a leading `./`.
        let path = checked("Filename", |path| is_relative_path(path.trim_start_matches("./")))?;
        Ok(Self {
            name: checked("Package", is_package_name)?,
            version: checked("Version", is_version)?,
            architecture: checked("Architecture", is_architecture)?,
            path: path.trim_start_matches("./"),
            sha256: checked("SHA256", is_sha256)?,
            size,
            multi_arch: optional("Multi-Arch"),
            priority: optional("Priority"),
            essential: optional("Essential") == "yes",
            pre_depends: optional("Pre-Depends"),
            depends: optional("Depends"),
            recommends: optional("Recommends"),
            provides: optional("Provides"),
            conflicts: optional("Conflicts"),
            breaks: optional("Breaks"),
            source,
            line: stanza.line,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"Package: a\n";

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Decodes `bytes` as what a Release lists with the digest of these bytes and of `plain`.
    fn check(compression: Compression, bytes: &[u8], plain: &[u8], expected: Result<&[u8], &str>) {
        let index = IndexFile {
            path: String::new(),
            file: format!("main/binary-amd64/Packages{}", compression.extension()),
            compression,
            sha256: sha256(bytes),
            size: bytes.len() as u64,
            plain: Some((sha256(plain), plain.len() as u64)),
        };
        match (index.decode(bytes), expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (result, expected) => panic!("expected {expected:?}, not {result:?}"),
        }
    }

    #[test]
    fn indexes_are_decompressed() {
        check(Compression::None, TEXT, TEXT, Ok(TEXT));
        check(Compression::Xz, &xz(TEXT), TEXT, Ok(TEXT));
        check(Compression::Gzip, &gzip(TEXT), TEXT, Ok(TEXT));
        let twice = [TEXT, TEXT].concat();
        check(Compression::Xz, &[xz(TEXT), xz(TEXT)].concat(), &twice, Ok(&twice));
        check(Compression::Gzip, &[gzip(TEXT), gzip(TEXT)].concat(), &twice, Ok(&twice));
    }

    #[test]
    fn other_texts_are_refused() {
        check(Compression::Xz, &xz(TEXT), b"Package: b\n", Err("main/binary-amd64/Packages is not what"));
        check(Compression::Xz, &xz(TEXT)[..40], TEXT, Err("Packages.xz does not decompress"));
        check(Compression::Gzip, &gzip(TEXT)[..12], TEXT, Err("Packages.gz does not decompress"));
        check(Compression::Gzip, TEXT, TEXT, Err("Packages.gz does not decompress"));
        // A bomb is stopped one byte behind the size that the Release lists.
        check(Compression::Xz, &xz(&vec![b'\n'; 4 << 20]), TEXT, Err(", 12 bytes"));
    }

    #[test]
    fn other_bytes_are_refused() {
        let index = IndexFile {
            path: String::new(),
            file: "Packages".to_owned(),
            compression: Compression::None,
            sha256: sha256(TEXT),
            size: TEXT.len() as u64,
            plain: None,
        };
        assert!(matches!(index.decode(b"Package: b\n"), Err(Error::Mismatch { .. })));
        assert_eq!(index.decode(TEXT).unwrap(), TEXT);
    }
}
