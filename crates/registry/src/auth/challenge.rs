use http_auth::{ChallengeParser, ChallengeRef};
use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One way in that a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token, which another server gives out.
    Bearer {
        /// That server. Any scheme and any host: it is what the answer says, not what may be done.
        realm: Url,
        /// Who the token is for.
        service: Option<String>,
        /// What it is for, as the server wants to be asked.
        scope: Option<String>,
    },
}

/// What the `WWW-Authenticate` headers of an answer ask for, in their order.
///
/// Other schemes, and a `Bearer` whose realm is no URL, are left out, for nothing can be done about them; what follows
/// a syntax error is left out, for nothing is known about it. Source: RFC 9110, section 11.6.1; Docker's token
/// authentication specification.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| ChallengeParser::new(text).map_while(Result::ok))
        .filter_map(|found| known(&found))
        .collect()
}

fn known(challenge: &ChallengeRef<'_>) -> Option<Challenge> {
    let parameter = |name: &str| {
        let (_, value) = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.to_unescaped())
    };
    if challenge.scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !challenge.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let realm = Url::parse(&parameter("realm")?).ok()?;
    Some(Challenge::Bearer { realm, service: parameter("service"), scope: parameter("scope") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected` has a challenge per word: `basic`, or `REALM|SERVICE|SCOPE`.
    fn check(headers: &[&str], expected: &str) {
        let headers = headers.iter().map(|text| (WWW_AUTHENTICATE, text.parse().unwrap())).collect();
        let shown = challenges(&headers).into_iter().map(|challenge| match challenge {
            Challenge::Basic => "basic".to_owned(),
            Challenge::Bearer { realm, service, scope } => {
                format!("{realm}|{}|{}", service.unwrap_or_default(), scope.unwrap_or_default())
            }
        });
        assert_eq!(shown.collect::<Vec<_>>().join(" + "), expected);
    }

    #[test]
    fn of_registries() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                   scope=\"repository:library/debian:pull,push\"";
        check(&[hub], "https://auth.docker.io/token|registry.docker.io|repository:library/debian:pull,push");
        check(&["Basic realm=\"Registry Realm\""], "basic");
        check(&["bearer realm=\"https://a.b/t?x=1\""], "https://a.b/t?x=1||");
        let oci = "Bearer realm=\"https://a.b/t\", service=\"\", error=\"invalid_token\", scope=\"a b\"";
        check(&[oci], "https://a.b/t||a b");
    }

    #[test]
    fn several() {
        check(&["Basic realm=\"a, b=c\", Bearer realm=\"https://a.b/\""], "basic + https://a.b/||");
        check(&["Basic realm=a", "Bearer realm=\"https://a.b/\", service=c"], "basic + https://a.b/|c|");
        check(&["Negotiate, NTLM, Basic realm=\"x\""], "basic");
        check(&["Bearer realm=\"https://a.b/\", scope=\"one\", scope=\"two\""], "https://a.b/||one");
    }

    #[test]
    fn quoting() {
        check(
            &["Bearer realm=\"https://a.b/\", service=\"a \\\"b\\\", c\\\\d\""],
            "https://a.b/|a \"b\", c\\d|",
        );
        check(&["BEARER Realm = \"https://a.b/\" , Scope = \"x,y\""], "https://a.b/||x,y");
    }

    #[test]
    fn what_is_none() {
        check(&[], "");
        check(&["", "Bearer", "Bearer realm=\"/token\"", "Bearer realm=\"\"", "Digest realm=\"x\""], "");
        check(&["Bearer realm=\"https://a.b/"], "");
        check(&["Basic realm=\"x\", Bearer realm=https://a.b/"], "basic");
        check(&["Bearer realm=\"file:///etc/passwd\""], "file:///etc/passwd||");
    }
}
