use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use imgforge_oci::{Digest, ParseDigestError};

/// The longest `HOST/NAME`, in bytes. Source: OCI distribution specification, "Pulling manifests", on what clients
/// impose.
const MAX_NAME: usize = 255;

/// The longest tag, in bytes. Source: as above.
const MAX_TAG: usize = 128;

/// The host by which everybody writes Docker Hub.
const DOCKER: &str = "docker.io";

/// What a registry has under a name: `HOST[:PORT]/NAME[:TAG][@sha256:…]`.
///
/// The host is always written out: a lock file and a pipeline must mean the same registry on every machine, and a
/// short name means what a machine's configuration says. Docker Hub is `docker.io`; a name of one part there is in
/// `library/`, as everybody has it. Reading accepts `docker://` before it, writing leaves it out.
///
/// Source: OCI distribution specification, "Pulling manifests"; the grammar of hosts is that of
/// github.com/distribution/reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry, with its port where one is written: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`. In lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name there: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one is written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The tag, `latest` where none is written.
    pub fn tag_or_latest(&self) -> &str {
        self.tag().unwrap_or("latest")
    }

    /// The digest, if one is written. It decides; the tag beside it is for people.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Another tag of the same repository. The digest goes, for it was the old tag's.
    ///
    /// # Errors
    /// [`ReferenceError::Tag`].
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag { text: self.name(), tag: tag.to_owned() });
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same, pinned. The tag stays, to say where the digest came from.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The host that answers for [`host`](Self::host): itself, but for Docker Hub.
    pub fn api_host(&self) -> &str {
        if self.host == DOCKER { "registry-1.docker.io" } else { &self.host }
    }

    /// `HOST/NAME`.
    fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(written: &str) -> Result<Self, ReferenceError> {
        let text = written.strip_prefix("docker://").unwrap_or(written);
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ReferenceError::Scheme { scheme: scheme.to_owned() });
        }
        let (text, digest) = match text.rsplit_once('@') {
            Some((before, after)) => (before, Some(parse_digest(after)?)),
            None => (text, None),
        };
        let owned = || text.to_owned();
        let (host, rest) = match text.split_once('/') {
            Some((host, rest)) if is_explicit(host) => (host.to_ascii_lowercase(), rest),
            _ => return Err(ReferenceError::NoHost { text: owned() }),
        };
        // Docker takes the one for the other.
        let host = if host == "index.docker.io" { DOCKER.to_owned() } else { host };
        if let Some(reason) = wrong_host(&host) {
            return Err(ReferenceError::Host { text: owned(), host, reason });
        }
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if let Some(component) = repository.split('/').find(|component| !is_component(component)) {
            return Err(ReferenceError::Repository { text: owned(), component: component.to_owned() });
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag { text: owned(), tag: tag.to_owned() });
        }
        let library = if host == DOCKER && !repository.contains('/') { "library/" } else { "" };
        let repository = format!("{library}{repository}");
        let length = host.len() + 1 + repository.len();
        if length > MAX_NAME {
            return Err(ReferenceError::TooLong { length });
        }
        Ok(Self { host, repository, tag: tag.map(str::to_owned), digest })
    }
}

/// Text that is no [`Reference`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A short name.
    #[error("`{text}` names no registry: write HOST/NAME, for Docker Hub `{}`", on_docker_hub(text))]
    NoHost {
        /// The text, without `docker://` and digest.
        text: String,
    },
    /// The address of something else.
    #[error("`{scheme}://…` is no image in a registry: write docker://HOST/NAME:TAG")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// Something after `@` that is no digest. What stands before is not shown: it may be a password.
    #[error(
        "`…@{after}`: only a digest may follow `@`, as `sha256:` and 64 hexadecimal digits in lower case; user and \
         password belong into an auth file, where `podman login` or `docker login` puts them"
    )]
    Digest {
        /// What follows.
        after: String,
    },
    /// No host.
    #[error("`{text}`: `{host}` is no host: {reason}")]
    Host {
        /// The text, without `docker://` and digest.
        text: String,
        /// The part before the first slash.
        host: String,
        /// What a host would look like.
        reason: &'static str,
    },
    /// No name of a repository.
    #[error(
        "`{text}`: `{component}` cannot be part of a repository's name: lower-case letters and digits, with `.`, `_`, \
         `__` or hyphens between them"
    )]
    Repository {
        /// The text, without `docker://` and digest.
        text: String,
        /// The part between two slashes that is wrong.
        component: String,
    },
    /// No tag.
    #[error(
        "`{text}`: `{tag}` cannot be a tag: letters, digits, `_`, `.` and `-`, the last two not first, at most \
         {MAX_TAG} of them"
    )]
    Tag {
        /// What it would be a tag of.
        text: String,
        /// The tag.
        tag: String,
    },
    /// More than clients take.
    #[error(
        "host and name have {length} characters: at most {MAX_NAME} can be pulled everywhere, take a shorter name"
    )]
    TooLong {
        /// Their length, in bytes.
        length: usize,
    },
}

/// What somebody who wrote a short name will have meant.
fn on_docker_hub(text: &str) -> String {
    match text.trim_start_matches('/') {
        "" => "docker.io/library/debian:bookworm".to_owned(),
        name if name.contains('/') => format!("{DOCKER}/{name}"),
        name => format!("{DOCKER}/library/{name}"),
    }
}

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    text.parse().map_err(|ParseDigestError { text }| ReferenceError::Digest { after: text })
}

/// Whether this can't be the first part of a short name. Source: github.com/distribution/reference, `splitDockerDomain`.
fn is_explicit(host: &str) -> bool {
    host.contains(['.', ':']) || host.eq_ignore_ascii_case("localhost")
}

/// What is wrong with a host, which may have a port.
fn wrong_host(host: &str) -> Option<&'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return Some("the bracket of an IPv6 address is not closed");
            };
            if address.parse::<Ipv6Addr>().is_err() {
                return Some("what is in brackets must be an IPv6 address");
            }
            match (port, port.strip_prefix(':')) {
                ("", _) => (None, None),
                (_, Some(port)) => (None, Some(port)),
                _ => return Some("only a port may follow an IPv6 address"),
            }
        }
        None => match host.split_once(':') {
            Some((_, port)) if port.contains(':') => return Some("an IPv6 address is written in brackets"),
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    // A sign would be taken by the parser.
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if port.is_some_and(|port| !is_port(port)) {
        return Some("a port is a number from 1 to 65535");
    }
    name.and_then(wrong_name)
}

/// What is wrong with a host's name or IPv4 address.
fn wrong_name(name: &str) -> Option<&'static str> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(is_label) {
        return Some("it is made of letters, digits and hyphens, with single dots between");
    }
    // URLs take `127.1` and `0x7f.1` for 127.0.0.1. A host must be what it looks like.
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if is_number && name.parse::<Ipv4Addr>().is_err() {
        return Some("an IPv4 address has four numbers from 0 to 255, without leading zeros");
    }
    None
}

/// One part of a repository's name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|byte| is_word(byte)).count();
        rest = rest.get(word..).unwrap_or_default();
        let separator = rest.iter().take_while(|byte| !is_word(byte)).count();
        match (word, rest.split_at_checked(separator)) {
            (1.., Some(([], _))) => return true,
            (1.., Some((b"." | b"_" | b"__", after))) => rest = after,
            (1.., Some((hyphens, after))) if hyphens.iter().all(|byte| *byte == b'-') => rest = after,
            _ => return false,
        }
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    text.len() <= MAX_TAG
        && !text.starts_with(['.', '-'])
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// `expected` is host, repository and what follows, or words of the error.
    fn check(text: &str, expected: Result<(&str, &str, &str), &str>) {
        match (text.parse::<Reference>(), expected) {
            (Ok(reference), Ok((host, repository, rest))) => {
                assert_eq!((reference.host(), reference.repository()), (host, repository), "{text}");
                assert_eq!(reference.to_string(), format!("{host}/{repository}{rest}"));
                assert_eq!(reference.to_string().parse(), Ok(reference));
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{text}: {error}"),
            (found, _) => panic!("{text}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn text_and_back() {
        check("docker://docker.io/debian", Ok(("docker.io", "library/debian", "")));
        check("docker.io/nvidia/cuda:12.8.1-base", Ok(("docker.io", "nvidia/cuda", ":12.8.1-base")));
        check("index.docker.io/debian", Ok(("docker.io", "library/debian", "")));
        check("registry-1.docker.io/library/debian", Ok(("registry-1.docker.io", "library/debian", "")));
        check(
            "127.0.0.1:5000/a/b_c/d__e/f--g.h:T_1.0-x",
            Ok(("127.0.0.1:5000", "a/b_c/d__e/f--g.h", ":T_1.0-x")),
        );
        check("[::1]:5000/a", Ok(("[::1]:5000", "a", "")));
        check("[::1]/a:b", Ok(("[::1]", "a", ":b")));
        check("localhost/a", Ok(("localhost", "a", "")));
        check("ci:5000/a", Ok(("ci:5000", "a", "")));
        check("GHCR.io/a:B", Ok(("ghcr.io", "a", ":B")));
        check(&format!("quay.io/a/b@{DIGEST}"), Ok(("quay.io", "a/b", &format!("@{DIGEST}"))));
        check(&format!("docker://quay.io/a:1@{DIGEST}"), Ok(("quay.io", "a", &format!(":1@{DIGEST}"))));
        let longest = format!("a.b/{}", "c".repeat(251));
        check(&longest, Ok(("a.b", &longest[4..], "")));
        check(&format!("a.b/c:{}", "d".repeat(128)), Ok(("a.b", "c", &format!(":{}", "d".repeat(128)))));
    }

    #[test]
    fn a_host_must_be_written() {
        check("debian", Err("write HOST/NAME, for Docker Hub `docker.io/library/debian`"));
        check("docker://debian:bookworm", Err("`docker.io/library/debian:bookworm`"));
        check("nvidia/cuda", Err("`docker.io/nvidia/cuda`"));
        check("", Err("names no registry"));
        check("docker://", Err("names no registry"));
        check("/a", Err("`docker.io/library/a`"));
        check("debian:bookworm", Err("names no registry"));
    }

    #[test]
    fn hosts_that_are_none() {
        check("a..b/c", Err("letters, digits and hyphens"));
        check("a_b.c/d", Err("letters, digits and hyphens"));
        check("-a.b/c", Err("letters, digits and hyphens"));
        check(&format!("{}.a/b", "x".repeat(64)), Err("letters, digits and hyphens"));
        check(".a/b", Err("letters, digits and hyphens"));
        check(":5000/b", Err("letters, digits and hyphens"));
        check("bücher.de/a", Err("letters, digits and hyphens"));
        check("a.b:/c", Err("a port is a number"));
        check("a.b:0/c", Err("a port is a number"));
        check("a.b:65536/c", Err("a port is a number"));
        check("a.b:+80/c", Err("a port is a number"));
        check("::1/c", Err("in brackets"));
        check("[::1/c", Err("not closed"));
        check("[a.b]/c", Err("must be an IPv6 address"));
        check("[::1]5000/c", Err("only a port may follow"));
        check("[::1]:/c", Err("a port is a number"));
        check("127.1/c", Err("four numbers"));
        check("0x7f.0x1:5000/c", Err("four numbers"));
        check("127.0.0.01/c", Err("four numbers"));
        check("2130706433:80/c", Err("four numbers"));
    }

    #[test]
    fn names_that_are_none() {
        check("a.b/", Err("`` cannot be part"));
        check("a.b/c/", Err("`` cannot be part"));
        check("a.b//c", Err("`` cannot be part"));
        for component in ["C", "c_", "_c", "c..d", "c___d", "c._d", "c-_d", "c d", "ü", "..", "%2e", "-"] {
            check(&format!("a.b/{component}/x"), Err(&format!("`{component}` cannot be part")));
        }
        check(&format!("a.b/{}", "c".repeat(252)), Err("256 characters: at most 255"));
        check(&format!("docker.io/{}", "c".repeat(240)), Err("258 characters"));
    }

    #[test]
    fn tags_that_are_none() {
        for tag in ["", "-a", ".a", "a b", "a+b", "ü", &"a".repeat(129)] {
            check(&format!("a.b/c:{tag}"), Err(&format!("`{tag}` cannot be a tag")));
        }
        let reference: Reference = "a.b/c:d".parse().unwrap();
        assert_eq!(reference.with_tag("e").unwrap().to_string(), "a.b/c:e");
        assert!(
            reference.with_tag("e/f").unwrap_err().to_string().starts_with("`a.b/c`: `e/f` cannot be a tag")
        );
        let pinned = reference.with_digest(DIGEST.parse().unwrap());
        assert_eq!(pinned.to_string(), format!("a.b/c:d@{DIGEST}"));
        assert_eq!(pinned.with_tag("e").unwrap().digest(), None);
    }

    #[test]
    fn digests_and_other_schemes() {
        check("a.b/c@sha256:00", Err("`…@sha256:00`: only a digest"));
        check("a.b/c@", Err("only a digest"));
        check("https://a.b/c", Err("`https://…` is no image in a registry"));
        let error = "docker://me:s3cret@a.b/c".parse::<Reference>().unwrap_err().to_string();
        assert!(error.contains("podman login") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn every_short_text() {
        let characters = ["a", "0", "-", ".", "_", ":", "/", "@", "[", "]", "A", "ü"];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            texts = texts.iter().flat_map(|text| characters.map(|last| format!("{text}{last}"))).collect();
            for text in &texts {
                if let Ok(reference) = text.parse::<Reference>() {
                    assert_eq!(reference.to_string().parse(), Ok(reference), "{text}");
                }
            }
        }
    }

    #[test]
    fn defaults() {
        let reference: Reference = "docker.io/debian".parse().unwrap();
        assert_eq!((reference.tag(), reference.tag_or_latest()), (None, "latest"));
        assert_eq!(reference.api_host(), "registry-1.docker.io");
        assert_eq!("ghcr.io/a".parse::<Reference>().unwrap().api_host(), "ghcr.io");
    }
}
