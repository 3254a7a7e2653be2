//! OpenPGP as archives use it: one cleartext-signed text, checked against a keyring.
//!
//! `pgp` has the packets and the arithmetic; which key may have signed what, and when, is decided here, because the
//! crate's own `verify` answers only whether a number fits a key. The rules, as gpgv and sqv have them:
//!
//! - a key counts if its newest binding by the certificate's primary key says that it may sign, the binding of a subkey
//!   is signed back by the subkey, and neither the key nor the certificate is revoked or expired;
//! - a signature counts if it is over text, by such a key, with SHA-2 or SHA-3, made after the key and not in the future;
//! - one signature that counts is enough. Archives are signed by several keys, of which a keyring has some.
//!
//! What was signed is returned, and nothing but that is ever parsed.

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{Fingerprint, KeyDetails, Tag, VerifyingKey};

use crate::Error;

/// Certificates that may sign an archive.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

/// The time that an archive's promises are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Seconds since 1970: keys and indexes must be valid then.
    At(u64),
    /// The index is meant to be old: its `Valid-Until` is not looked at, and a key need only have been valid when it
    /// signed.
    Snapshot,
}

/// How far an archive's clock may be ahead of ours, in seconds.
pub(crate) const CLOCK_SKEW: u64 = 10 * 60;

/// An InRelease of Debian has 0.2 MB.
const MAX_TEXT: usize = 64 << 20;
/// Debian's keyring of all times has 0.2 MB.
const MAX_KEYRING: usize = 16 << 20;
const MAX_SIGNATURES: usize = 64;

impl Keyring {
    /// Reads one or more certificates, binary or armoured (any number of armoured blocks).
    ///
    /// A certificate that does not read (an algorithm of another time) is left out, as gpg does.
    ///
    /// # Errors
    /// [`Error::Keyring`] if not one certificate reads.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        const ARMOUR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
        let error = |reason: &str| Error::Keyring { reason: reason.to_owned() };
        if bytes.len() > MAX_KEYRING {
            return Err(error("it is larger than 16 MiB"));
        }
        if bytes.get(8..12) == Some(b"KBXf") {
            return Err(error("it is a GnuPG keybox; export its keys"));
        }
        let mut certificates = Vec::new();
        // Every OpenPGP packet starts with a byte above 0x7f, which no armour does.
        if bytes.first().is_some_and(|first| *first >= 0x80) {
            let parsed = SignedPublicKey::from_bytes_many(bytes);
            certificates.extend(parsed.map_err(|error| keyring_error(&error))?.flatten());
        } else {
            let text =
                std::str::from_utf8(bytes).map_err(|_| error("it is neither OpenPGP packets nor text"))?;
            for (start, _) in text.match_indices(ARMOUR) {
                let block = text.get(start..).unwrap_or_default();
                let end = block.get(1..).and_then(|rest| rest.find(ARMOUR)).map_or(block.len(), |at| at + 1);
                let parsed = SignedPublicKey::from_string_many(block.get(..end).unwrap_or_default());
                certificates.extend(parsed.map_err(|error| keyring_error(&error))?.0.flatten());
            }
        }
        if certificates.is_empty() {
            return Err(error("there is no public key in it"));
        }
        Ok(Self { certificates })
    }

    /// Adds another keyring's certificates: an archive's key may lie in any of several files.
    pub fn extend(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
    }

    /// Keeps only the certificates that a `Signed-By` of apt's sources names: the fingerprint of the certificate or of
    /// one of its subkeys, in hexadecimal digits of either case, perhaps with a `!` behind it.
    pub fn retain_fingerprints(&mut self, fingerprints: &[String]) {
        let named = |fingerprint: &Fingerprint| {
            let hex = hex(fingerprint);
            fingerprints.iter().any(|wanted| wanted.trim_end_matches('!').eq_ignore_ascii_case(&hex))
        };
        self.certificates.retain(|certificate| {
            named(&certificate.primary_key.fingerprint())
                || certificate.public_subkeys.iter().any(|subkey| named(&subkey.key.fingerprint()))
        });
    }
}

/// Checks a cleartext-signed text and returns what was signed: `\n` line ends, dash escapes and trailing blanks removed.
///
/// # Errors
/// [`Error::NotSigned`] if it is anything but one signed text from its first byte to its last; [`Error::Untrusted`] if no
/// signature counts.
pub(crate) fn verify_cleartext(
    bytes: &[u8],
    keyring: &Keyring,
    freshness: Freshness,
) -> Result<(String, Vec<String>), Error> {
    let not_signed = |reason: String| Error::NotSigned { reason };
    if bytes.len() > MAX_TEXT {
        return Err(not_signed("it is larger than 64 MiB".to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| not_signed("it is not UTF-8".to_owned()))?;
    if !text.starts_with("-----BEGIN PGP SIGNED MESSAGE-----") {
        return Err(not_signed("it does not start with `-----BEGIN PGP SIGNED MESSAGE-----`".to_owned()));
    }
    let (message, _) =
        CleartextSignedMessage::from_string(text).map_err(|error| not_signed(error.to_string()))?;
    let signatures = message.signatures();
    if signatures.is_empty() || signatures.len() > MAX_SIGNATURES {
        return Err(not_signed(format!("it has {} signatures", signatures.len())));
    }
    let signed = message.signed_text();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for signature in signatures {
        match judge(signature, &signed, keyring, freshness) {
            Ok(fingerprint) => good.push(fingerprint),
            Err(reason) => bad.push(format!("{}: {reason}", issuer(signature))),
        }
    }
    if good.is_empty() {
        return Err(Error::Untrusted { signatures: bad });
    }
    Ok((signed.replace("\r\n", "\n"), good))
}

/// The fingerprint of the key that made a signature which counts, or why it does not count.
fn judge(
    signature: &Signature,
    text: &str,
    keyring: &Keyring,
    freshness: Freshness,
) -> Result<String, String> {
    if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
        return Err("it is not a signature over a text".to_owned());
    }
    if !signature.hash_alg().is_some_and(is_strong) {
        return Err("its hash algorithm is too weak".to_owned());
    }
    let made = signature.created().ok_or("it has no date")?.as_secs().into();
    if let Freshness::At(now) = freshness {
        if made > now.saturating_add(CLOCK_SKEW) {
            return Err("it was made in the future".to_owned());
        }
        if expiry(made, signature.signature_expiration_time()).is_some_and(|end| end <= now) {
            return Err("it expired".to_owned());
        }
    }
    // The moments at which the key must have been valid: when it signed, and when we trust it.
    let moments = match freshness {
        Freshness::At(now) => [made, now.max(made)],
        Freshness::Snapshot => [made, made],
    };
    let mut refusal = None;
    let mut known = false;
    for certificate in &keyring.certificates {
        let primary = &certificate.primary_key;
        known |= names(signature, primary);
        if fits(signature, text, primary) {
            match primary_may_sign(certificate, moments) {
                Ok(()) => return Ok(hex(&primary.fingerprint())),
                Err(reason) => refusal = Some(reason),
            }
        }
        for subkey in &certificate.public_subkeys {
            known |= names(signature, &subkey.key);
            if fits(signature, text, &subkey.key) {
                match subkey_may_sign(certificate, subkey, moments) {
                    Ok(()) => return Ok(hex(&subkey.key.fingerprint())),
                    Err(reason) => refusal = Some(reason),
                }
            }
        }
    }
    Err(refusal.unwrap_or_else(|| match known {
        true => "the text is not what was signed".to_owned(),
        false => "its key is not in the keyring".to_owned(),
    }))
}

/// Whether the signature says that it is by this key, and the arithmetic agrees.
fn fits(signature: &Signature, text: &str, key: &impl VerifyingKey) -> bool {
    names(signature, key) && signature.verify(key, text.as_bytes()).is_ok()
}

fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    let (ids, fingerprints) = (signature.issuer_key_id(), signature.issuer_fingerprint());
    ids.iter().any(|id| **id == key.legacy_key_id())
        || fingerprints.iter().any(|fingerprint| **fingerprint == key.fingerprint())
}

/// Whether a certificate's primary key was allowed to sign at the given moments.
fn primary_may_sign(certificate: &SignedPublicKey, moments: [u64; 2]) -> Result<(), String> {
    let binding = primary_binding(certificate, moments)?;
    if binding.key_flags().sign() { Ok(()) } else { Err("its key is not for signing".to_owned()) }
}

/// Checks that the certificate itself is alive, and gives the self-signature that says so.
fn primary_binding(certificate: &SignedPublicKey, moments: [u64; 2]) -> Result<&Signature, String> {
    let primary = &certificate.primary_key;
    let details = &certificate.details;
    // Whatever the reason and the date of a revocation: an archive that revokes a key does not want it trusted.
    if details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
        return Err("its key is revoked".to_owned());
    }
    let direct = details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
    let users = details.users.iter().flat_map(|user| {
        let own = |signature: &&Signature| {
            signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
                && signature.typ() != Some(SignatureType::CertRevocation)
        };
        user.signatures.iter().filter(own)
    });
    let binding = newest(direct.chain(users), moments).ok_or("its key has no self-signature")?;
    alive(primary.created_at().as_secs().into(), binding, moments)?;
    Ok(binding)
}

/// Whether a subkey was allowed to sign at the given moments.
fn subkey_may_sign(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    moments: [u64; 2],
) -> Result<(), String> {
    primary_binding(certificate, moments)?;
    let primary = &certificate.primary_key;
    let own = subkey
        .signatures
        .iter()
        .filter(|signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok());
    let (revocations, bindings): (Vec<_>, Vec<_>) =
        own.partition(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation));
    if !revocations.is_empty() {
        return Err("its subkey is revoked".to_owned());
    }
    let binding =
        newest(bindings.into_iter(), moments).ok_or("its subkey is not bound to the certificate")?;
    if !binding.key_flags().sign() {
        return Err("its subkey is not for signing".to_owned());
    }
    let signed_back = binding
        .embedded_signature()
        .is_some_and(|signature| signature.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !signed_back {
        return Err("its subkey has not signed its binding".to_owned());
    }
    alive(subkey.key.created_at().as_secs().into(), binding, moments)
}

/// The newest of the bindings that were made by the later of the moments: a later one overrides an earlier one.
fn newest<'a>(bindings: impl Iterator<Item = &'a Signature>, moments: [u64; 2]) -> Option<&'a Signature> {
    let [_, last] = moments;
    let made = |binding: &&Signature| binding.created().map_or(0, |created| u64::from(created.as_secs()));
    bindings.filter(|binding| made(binding) <= last.saturating_add(CLOCK_SKEW)).max_by_key(made)
}

fn alive(created: u64, binding: &Signature, moments: [u64; 2]) -> Result<(), String> {
    let made = binding.created().map_or(0, |made| u64::from(made.as_secs()));
    let ends =
        [expiry(created, binding.key_expiration_time()), expiry(made, binding.signature_expiration_time())];
    for moment in moments {
        if moment < created {
            return Err("it is older than its key".to_owned());
        }
        if ends.iter().flatten().any(|end| *end <= moment) {
            return Err("its key expired".to_owned());
        }
    }
    Ok(())
}

/// When something that lives for a duration ends; OpenPGP's duration 0 means never.
fn expiry(start: u64, duration: Option<pgp::types::Duration>) -> Option<u64> {
    duration
        .map(|duration| u64::from(duration.as_secs()))
        .filter(|seconds| *seconds > 0)
        .map(|seconds| start + seconds)
}

fn is_strong(algorithm: HashAlgorithm) -> bool {
    matches!(
        algorithm,
        HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512
    )
}

fn issuer(signature: &Signature) -> String {
    let fingerprints = signature.issuer_fingerprint();
    let key_ids = signature.issuer_key_id();
    match (fingerprints.first(), key_ids.first()) {
        (Some(fingerprint), _) => hex(fingerprint),
        (None, Some(key_id)) => format!("{key_id:?}"),
        (None, None) => "a signature by nobody".to_owned(),
    }
}

fn hex(fingerprint: &Fingerprint) -> String {
    fingerprint.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn keyring_error(error: &pgp::errors::Error) -> Error {
    Error::Keyring { reason: error.to_string() }
}
