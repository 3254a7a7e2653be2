use crate::Error;

/// Characters of a tag, at most.
const MAX_TAG: usize = 128;

/// The long form of a name: `debian` is `docker.io/library/debian:latest`.
pub(crate) fn full_name(name: &str) -> String {
    let (repository, tag) = split(name);
    let (domain, path) = match repository.split_once('/') {
        Some((domain, path)) if domain.contains(['.', ':']) || domain == "localhost" => (domain, path),
        _ => ("docker.io", repository),
    };
    let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
    let library = if domain == "docker.io" && !path.contains('/') { "library/" } else { "" };
    format!("{domain}/{library}{path}:{}", tag.unwrap_or("latest"))
}

/// Refuses a name that `docker load` would refuse.
///
/// # Errors
/// [`Error::DockerName`] unless it is `NAME:TAG`. Source: the grammar of github.com/distribution/reference.
pub(super) fn check(name: &str) -> Result<(), Error> {
    let (repository, tag) = split(name);
    let is_tag = |tag: &str| {
        tag.len() <= MAX_TAG
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    let mut components = repository.split('/').peekable();
    let first = components.next().unwrap_or_default();
    let has_domain = components.peek().is_some();
    let is_sound = (is_component(first) || has_domain && is_domain(first)) && components.all(is_component);
    match is_sound && tag.is_some_and(is_tag) {
        true => Ok(()),
        false => Err(Error::DockerName { name: name.to_owned() }),
    }
}

/// The tag is behind the last colon, unless that is a port's.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

/// Lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(is_word)
        && component.ends_with(is_word)
        && component.split(is_word).all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        })
}

/// A host, with a port or without.
fn is_domain(domain: &str) -> bool {
    let (host, port) = domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port)));
    let is_label = |label: &str| {
        let is_end = |c: char| c.is_ascii_alphanumeric();
        label.starts_with(is_end)
            && label.ends_with(is_end)
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_forms() {
        let check = |name: &str, expected: &str| {
            assert_eq!(full_name(name), expected);
            assert_eq!(full_name(expected), expected);
        };
        check("debian", "docker.io/library/debian:latest");
        check("debian:12", "docker.io/library/debian:12");
        check("a/b:1", "docker.io/a/b:1");
        check("docker.io/debian", "docker.io/library/debian:latest");
        check("index.docker.io/a/b", "docker.io/a/b:latest");
        check("localhost/a", "localhost/a:latest");
        check("localhost:5000/a", "localhost:5000/a:latest");
        check("example.org/a/b:c", "example.org/a/b:c");
    }

    #[test]
    fn names() {
        for name in [
            "app:1",
            "app:serve-cu12.8-py3.11",
            "example.org:5000/a/b__c/d---e:latest",
            "localhost/a.b:_x",
            "Example.org/a:1",
            "a-b/c:1",
        ] {
            check(name).unwrap();
        }
        for name in [
            "",
            "app",
            ":1",
            "app:",
            "App:1",
            "a/B:1",
            "a//b:1",
            "a..b:1",
            "a_-b:1",
            "-a:1",
            "a:-1",
            "a:b:c",
            "host:port/a",
            "a:1@sha256:0",
            "a b:1",
            "ex_ample.org:5000/a:1",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
        check(&format!("a:{}", "x".repeat(128))).unwrap();
        assert!(check(&format!("a:{}", "x".repeat(129))).is_err());
    }
}
