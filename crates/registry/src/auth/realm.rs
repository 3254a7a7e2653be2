use reqwest::Url;

/// Whether the credentials for a registry may be sent to the token server that it names.
///
/// A token server gets them on the registry's own origin, or over TLS on the default port of a host under the same
/// registrable domain: registry-1.docker.io sends its clients to auth.docker.io, registry.gitlab.com to gitlab.com. Any
/// other one gets only what there is for its own host. Nobody is trusted for having a near address: an IP address and a
/// name without a registrable domain, like `localhost`, stand for themselves alone.
///
/// What is registrable is for the Public Suffix List to say (publicsuffix.org), as compiled into the crate psl. Under
/// a top domain that it does not know, that is the name before the last dot: `registry.lab.corp` and `auth.lab.corp`
/// belong together.
pub(crate) fn realm_may_have(registry: &Url, realm: &Url) -> bool {
    if !matches!(realm.scheme(), "http" | "https") {
        return false;
    }
    if realm.origin() == registry.origin() {
        return true;
    }
    // A port that is written and is the scheme's own is not kept by the parser; an IP address is no domain.
    let domain = realm.domain().and_then(psl::domain_str);
    realm.scheme() == "https"
        && realm.port().is_none()
        && domain.is_some()
        && domain == registry.domain().and_then(psl::domain_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(registry: &str, realm: &str, expected: bool) {
        let (registry, realm) = (Url::parse(registry).unwrap(), Url::parse(realm).unwrap());
        assert_eq!(realm_may_have(&registry, &realm), expected, "{registry} {realm}");
    }

    #[test]
    fn the_same_origin() {
        check("https://ghcr.io/v2/", "https://ghcr.io/token", true);
        check("https://a.example.org:5000", "https://a.example.org:5000/auth", true);
        check("http://127.0.0.1:5000", "http://127.0.0.1:5000/token", true);
        check("http://[::1]:5000", "http://[::1]:5000/token", true);
        check("https://localhost", "https://localhost/token", true);
    }

    #[test]
    fn the_same_registrable_domain() {
        check("https://registry-1.docker.io", "https://auth.docker.io/token", true);
        check("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true);
        check("https://registry.example.co.uk:5050", "https://gitlab.example.co.uk:443/jwt/auth", true);
        check("http://registry.example.org", "https://auth.example.org", true);
        check("https://registry.lab.corp", "https://auth.lab.corp", true);
    }

    #[test]
    fn other_ports_and_the_clear() {
        check("https://a.example.org", "http://a.example.org/token", false);
        check("https://a.example.org", "http://auth.example.org/token", false);
        check("http://a.example.org", "http://auth.example.org/token", false);
        check("https://a.example.org", "https://auth.example.org:8443/token", false);
        check("https://a.example.org", "https://a.example.org:8443/token", false);
        check("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", false);
        check("http://localhost:5000", "http://localhost:5001/token", false);
        check("http://localhost:5000", "https://localhost/token", false);
        check("http://127.0.0.1:5000", "https://127.0.0.1/token", false);
    }

    #[test]
    fn other_hosts() {
        check("https://a.example.org", "https://example.com", false);
        check("https://a.co.uk", "https://b.co.uk", false);
        check("https://a.github.io", "https://b.github.io", false);
        check("https://docker.io.evil.org", "https://auth.docker.io", false);
        check("https://registry-1.docker.io", "https://docker.io.evil.org", false);
        check("https://127.0.0.1", "https://128.0.0.1", false);
        check("https://10.0.0.1", "https://11.1.0.1", false);
        check("https://[::1]", "https://[::2]", false);
        check("https://a", "https://b", false);
        check("http://127.0.0.1:5000", "http://localhost:5000", false);
        check("https://a.example.org", "file:///etc/passwd", false);
        check("https://a.example.org", "ftp://a.example.org", false);
    }
}
