//! What `update-ca-certificates` leaves in `/etc/ssl/certs`: one file with all certificates, and a folder in which OpenSSL
//! finds a certificate by its subject.
//!
//! Both, because programs differ: curl and Go read the file, and OpenSSL's own default, which is Python's too, is the
//! folder. In it each certificate has a link whose name is a hash of its subject (`X509_NAME_hash`): SHA-1 over the
//! canonical form of the name, as OpenSSL defines it in `crypto/x509/x_name.c`. So much of DER as leads to the subject is
//! read here.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use sha1::{Digest as _, Sha1};

use crate::tree::{Entry, Tree, TreeError, TreePath};

/// A certificate of the `ca-certificates` package that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("/{path} is no certificate: {reason}")]
pub struct CertificateError {
    /// Its path in the package.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

const FOLDER: &str = "etc/ssl/certs";

/// Adds the bundle and the links for certificates, given by path and content, to a tree.
pub(super) fn add<'a>(
    tree: &mut Tree,
    certificates: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), super::DatabaseError> {
    let mut bundle = String::new();
    // By link name, as `openssl rehash` goes through the folder.
    let mut names = BTreeMap::new();
    for (path, text) in certificates {
        bundle.push_str(text);
        if !text.ends_with('\n') {
            bundle.push('\n');
        }
        let hash = subject_hash(text).map_err(|reason| CertificateError { path: path.to_owned(), reason })?;
        let stem = path.rsplit('/').next().and_then(|name| name.strip_suffix(".crt")).unwrap_or_default();
        let replace = |character| match character {
            ' ' | ',' => '_',
            '(' | ')' => '=',
            other => other,
        };
        let name: String = stem.chars().map(replace).chain(".pem".chars()).collect();
        insert(tree, &name, Entry::symlink(format!("/{path}")))?;
        names.insert(name, hash);
    }
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for (name, hash) in names {
        let count = counts.entry(hash).or_default();
        insert(tree, &format!("{hash:08x}.{count}"), Entry::symlink(name))?;
        *count += 1;
    }
    if !bundle.is_empty() {
        insert(tree, "ca-certificates.crt", Entry::bytes(bundle.into_bytes(), false))?;
    }
    Ok(())
}

fn insert(tree: &mut Tree, name: &str, entry: Entry) -> Result<(), TreeError> {
    tree.insert(TreePath::new(&format!("{FOLDER}/{name}"))?, entry)
}

/// OpenSSL's hash of the subject of a PEM certificate: `openssl x509 -noout -subject_hash`.
fn subject_hash(pem: &str) -> Result<u32, &'static str> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----").ok_or("there is no PEM block")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----").ok_or("the PEM block has no end")?;
    let base64: String = body.split_whitespace().collect();
    let der = BASE64.decode(base64.as_bytes()).map_err(|_| "the PEM block is not Base64")?;
    let canonical = subject(&der).and_then(canonical_name).ok_or("its DER does not read")?;
    let hash = Sha1::digest(&canonical);
    let mut bytes = [0; 4];
    bytes.iter_mut().zip(hash).for_each(|(byte, hashed)| *byte = hashed);
    Ok(u32::from_le_bytes(bytes))
}

/// The content of the subject's SEQUENCE (RFC 5280, 4.1).
fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if let (EXPLICIT_0, _, rest) = element(fields)? {
        fields = rest;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (tag, subject, _) = element(fields)?;
    (tag == SEQUENCE).then_some(subject)
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;
const UTF8: u8 = 12;

/// The name in canonical form: strings in UTF-8, in small letters, blanks joined.
fn canonical_name(mut name: &[u8]) -> Option<Vec<u8>> {
    let mut canonical = Vec::new();
    while !name.is_empty() {
        let (_, mut attributes, rest) = element(name)?;
        name = rest;
        let mut set = Vec::new();
        while !attributes.is_empty() {
            let (_, attribute, rest) = element(attributes)?;
            attributes = rest;
            let (oid_tag, oid, value) = element(attribute)?;
            let (tag, content, _) = element(value)?;
            let mut pair = encode(oid_tag, oid);
            match text(tag, content) {
                Some(text) => pair.extend(encode(UTF8, canonical_text(&text).as_bytes())),
                None => pair.extend(encode(tag, content)),
            }
            set.push(encode(SEQUENCE, &pair));
        }
        // A SET is sorted in DER, and its elements have changed.
        set.sort();
        canonical.extend(encode(SET, &set.concat()));
    }
    Some(canonical)
}

/// The text of the string types whose text counts, not their encoding; the 8-bit ones are Latin-1 to OpenSSL.
fn text(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        UTF8 => String::from_utf8(content.to_vec()).ok(),
        // PrintableString, TeletexString, IA5String, VisibleString.
        19 | 20 | 22 | 26 => Some(content.iter().map(|byte| char::from(*byte)).collect()),
        // BMPString.
        30 => {
            let units = content
                .chunks_exact(2)
                .map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

fn canonical_text(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|character: char| character.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ").to_ascii_lowercase()
}

/// A DER element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    let len = content.len().to_be_bytes();
    let significant = len.iter().skip_while(|byte| **byte == 0);
    match content.len() {
        short @ 0..0x80 => der.push(short as u8),
        _ => {
            der.push(0x80 | significant.clone().count() as u8);
            der.extend(significant);
        }
    }
    der.extend(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed certificate for `C=DE, O=" Imgforge  Test ", CN=Straße`, with every kind of blank and letter that the
    /// canonical form changes; the hash is `openssl x509 -noout -subject_hash`'s.
    const PEM: &str = include_str!("testdata/certificate.pem");

    #[test]
    fn hashes_as_openssl_does() {
        assert_eq!(subject_hash(PEM), Ok(HASH));
    }

    const HASH: u32 = 0x6c79_209b;

    #[test]
    fn refuses_what_is_no_certificate() {
        let check = |pem: &str, reason: &str| assert_eq!(subject_hash(pem), Err(reason));
        check("", "there is no PEM block");
        check("-----BEGIN CERTIFICATE-----\nMA==\n", "the PEM block has no end");
        check("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "the PEM block is not Base64");
        for body in ["", "MA==", "MAA=", "MIQ=", "MITwAAAAAA=="] {
            check(
                &format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"),
                "its DER does not read",
            );
        }
    }

    #[test]
    fn lengths_are_encoded_in_the_shortest_form() {
        for len in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![7; len];
            let der = encode(4, &content);
            assert_eq!(element(&der), Some((4, content.as_slice(), [].as_slice())), "{len}");
        }
        assert_eq!(encode(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
    }
}
