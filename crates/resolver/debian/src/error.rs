use std::path::PathBuf;

/// What can be wrong with an archive's indexes, with a request for packages, or with the host's apt configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A keyring in no form that is read, or without a single usable key.
    #[error(
        "the keyring cannot be used: {reason}\nhint: give OpenPGP certificates, binary or armoured, as `gpg --export` writes them"
    )]
    Keyring {
        /// What is wrong with it.
        reason: String,
    },
    /// Text that is not one cleartext-signed OpenPGP message and nothing else.
    #[error(
        "InRelease is no signed text: {reason}\nhint: a proxy or a login page may have answered in the mirror's place"
    )]
    NotSigned {
        /// What is wrong with it.
        reason: String,
    },
    /// No signature by a key of the keyring that was valid.
    #[error("InRelease has no good signature by a key of the keyring\n{}\nhint: set `keyring` to the archive's own key", list(.signatures))]
    Untrusted {
        /// Each signature, and why it does not count.
        signatures: Vec<String>,
    },
    /// The archive's own promise of freshness has run out: the mirror is stale, or somebody replays an old index.
    #[error(
        "the index of {suite} expired: it is valid until {valid_until}, now is {now}\nhint: use a current mirror, or set `snapshot` for a base that is meant to be old"
    )]
    Expired {
        /// The suite, as the index calls itself.
        suite: String,
        /// The text of `Valid-Until`.
        valid_until: String,
        /// The time that it was held against, in the same form.
        now: String,
    },
    /// An index from the future: the host's clock is wrong, or the archive's.
    #[error("the index of {suite} is dated {date}, now is {now}\nhint: set this host's clock")]
    NotYetValid {
        /// The suite, as the index calls itself.
        suite: String,
        /// The text of `Date`.
        date: String,
        /// The time that it was held against, in the same form.
        now: String,
    },
    /// A control file (Release, Packages, apt's sources) that does not read.
    #[error("{file}:{line}: {reason}")]
    Control {
        /// Which file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A suite has no package index for what is asked.
    #[error("{suite} has no package index for component {component} and architecture {architecture}\n  components: {}\n  architectures: {}", .components.join(" "), .architectures.join(" "))]
    NoIndex {
        /// The suite, as the index calls itself.
        suite: String,
        /// The component that was asked for.
        component: String,
        /// The architecture that was asked for.
        architecture: String,
        /// What the suite says it has.
        components: Box<[String]>,
        /// What the suite says it has.
        architectures: Box<[String]>,
    },
    /// A file is not the one that the signed Release speaks of.
    #[error(
        "{file} is not what the signed Release lists\n  listed:   sha256:{expected}, {expected_size} bytes\n  received: sha256:{actual}, {actual_size} bytes\nhint: the mirror is being updated or broken; try again or use another one"
    )]
    Mismatch {
        /// Path of the file in the suite's folder.
        file: String,
        /// SHA-256 in the Release, hexadecimal.
        expected: String,
        /// Bytes in the Release.
        expected_size: u64,
        /// SHA-256 of what came, hexadecimal.
        actual: String,
        /// Bytes that came (or were read before the limit).
        actual_size: u64,
    },
    /// A compressed index that does not decompress.
    #[error("{file} does not decompress: {source}")]
    Decode {
        /// Path of the file in the suite's folder.
        file: String,
        /// The codec's message.
        source: std::io::Error,
    },
    /// A requested package that no index has.
    #[error("there is no package `{name}` for {architecture}{}", nearest(.near))]
    UnknownPackage {
        /// As it was asked for.
        name: String,
        /// The architecture that was asked for.
        architecture: String,
        /// Names that are spelled alike, nearest first.
        near: Vec<String>,
    },
    /// A request that is neither `name` nor `name=version`.
    #[error("`{request}` is no request for a package\nhint: write `name` or `name=version`")]
    BadRequest {
        /// As it was asked for.
        request: String,
    },
    /// A requested name that only other packages provide.
    #[error("`{name}` is a virtual package\nhint: name one of those that provide it: {}", .providers.join(", "))]
    VirtualPackage {
        /// As it was asked for.
        name: String,
        /// The packages that provide it, sorted.
        providers: Vec<String>,
    },
    /// A requested version that no index has (any more).
    #[error("{name} {version} is in no index\n  there is: {}\nhint: a `snapshot` of the archive keeps old versions", .known.join(", "))]
    UnknownVersion {
        /// The package.
        name: String,
        /// As it was asked for.
        version: String,
        /// The versions that there are, newest first.
        known: Vec<String>,
    },
    /// A name is requested twice with two versions, or requested and excluded.
    #[error("contradicting requests for {name}: {first} and {second}")]
    Contradiction {
        /// The package.
        name: String,
        /// One request.
        first: String,
        /// The other.
        second: String,
    },
    /// A dependency that nothing satisfies.
    #[error("{dependency} cannot be satisfied\n{}\n{}", list(.chain), list(.reasons))]
    Unsatisfiable {
        /// The group of alternatives, as the package's `Depends` has it.
        dependency: String,
        /// From the package that depends to the request that it is there for.
        chain: Vec<String>,
        /// For each alternative, why it is not possible.
        reasons: Vec<String>,
    },
    /// Two packages that are both needed and exclude each other.
    #[error("{left} and {right} cannot be installed together: {left} {relation}\n{}\n{}", list(.left_chain), list(.right_chain))]
    Conflict {
        /// The package that declares it, with version.
        left: String,
        /// The other, with version.
        right: String,
        /// `conflicts with …` or `breaks …`, in the package's words.
        relation: String,
        /// Why `left` is there, up to the request.
        left_chain: Box<[String]>,
        /// Why `right` is there, up to the request.
        right_chain: Box<[String]>,
    },
    /// A file of the host's apt configuration cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's message.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn control(file: &str, line: usize, reason: String) -> Self {
        Self::Control { file: file.to_owned(), line, reason }
    }
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn nearest(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("\nhint: did you mean {}?", names.join(" or ")) }
}
