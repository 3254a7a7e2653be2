//! What servers say about a failure, made fit to be shown.

use data_encoding::BASE64;
use imgforge_http::Response;
use reqwest::header::HeaderValue;
use serde::Deserialize;

/// Bytes of an answer that are read for its words.
const MAX_BODY: u64 = 64 << 10;

/// Characters that are shown of each, at most.
const MAX_WORDS: usize = 300;

/// The errors that are shown of an answer, at most.
const MAX_ERRORS: usize = 3;

/// An error, as registries and token servers write it. Source: OCI distribution specification, "Error codes"; RFC 6749,
/// section 5.2; Docker Hub's own `details`.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    errors: Vec<Problem>,
    error: Option<String>,
    error_description: Option<String>,
    details: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    code: Option<String>,
    message: Option<String>,
}

/// The words of an answer. One that repeats a secret is left out.
pub(crate) fn words(response: Response, secrets: &[String]) -> Vec<String> {
    response.bytes(MAX_BODY).map_or_else(|_| Vec::new(), |bytes| parse(&bytes, secrets))
}

/// The secrets in headers that say who we are: the token, or the password.
pub(crate) fn secrets_in(headers: &[HeaderValue]) -> Vec<String> {
    let mut secrets = Vec::new();
    for header in headers {
        let Some((_, value)) = header.to_str().ok().and_then(|text| text.split_once(' ')) else { continue };
        secrets.push(value.to_owned());
        let decoded = BASE64.decode(value.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) {
            secrets.push(password.to_owned());
        }
    }
    secrets
}

fn parse(bytes: &[u8], secrets: &[String]) -> Vec<String> {
    let Ok(said) = serde_json::from_slice::<Said>(bytes) else { return Vec::new() };
    let problems = said.errors.into_iter().map(|problem| [problem.code, problem.message]);
    let all =
        problems.take(MAX_ERRORS).chain([[said.error, said.error_description], [said.details, said.message]]);
    let clean = |text: String| {
        let is_secret = secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret.as_str()));
        let text: String = text.chars().filter(|character| !character.is_control()).take(MAX_WORDS).collect();
        (!is_secret && !text.trim().is_empty()).then_some(text)
    };
    let line = |pair: [Option<String>; 2]| {
        pair.into_iter().flatten().filter_map(clean).collect::<Vec<_>>().join(": ")
    };
    all.map(line).filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &str) {
        let secrets =
            secrets_in(&[imgforge_http::basic("me", "s3cret"), HeaderValue::from_static("Bearer t0ken")]);
        assert_eq!(parse(body.as_bytes(), &secrets).join("; "), expected, "{body}");
    }

    #[test]
    fn of_registries_and_token_servers() {
        check(
            r#"{"errors":[{"code":"DENIED","message":"not yours","detail":{"a":1}}]}"#,
            "DENIED: not yours",
        );
        check(r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, "A; b");
        check(r#"{"error":"invalid_grant","error_description":"too old"}"#, "invalid_grant: too old");
        check(r#"{"details":"incorrect username or password"}"#, "incorrect username or password");
    }

    #[test]
    fn nothing_that_may_not_be_shown() {
        check("<html>no</html>", "");
        check("{}", "");
        check(r#"{"errors":7}"#, "");
        check(r#"{"errors":[{"code":"A","message":"\u001b[31mred\u0000 \n"}]}"#, "A: [31mred ");
        check(r#"{"errors":[{"code":"A","message":"Basic bWU6czNjcmV0 is wrong"}]}"#, "A");
        check(r#"{"errors":[{"code":"A","message":"s3cret is wrong"}]}"#, "A");
        check(r#"{"errors":[{"code":"A","message":"t0ken is wrong"}]}"#, "A");
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(1000));
        check(&long, &"x".repeat(MAX_WORDS));
    }
}
