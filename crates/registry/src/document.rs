//! What a manifest is: what its registry calls it, and what it calls itself.

use imgforge_oci::{Kind, MediaType, kind};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::ManifestProblem;

/// What is asked for: manifests and indexes, OCI's and Docker's.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
                                   application/vnd.oci.image.manifest.v1+json, \
                                   application/vnd.docker.distribution.manifest.list.v2+json, \
                                   application/vnd.docker.distribution.manifest.v2+json";

/// What tells the kinds apart.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
}

/// The media type of a document that was sent as `sent`.
///
/// Where the document says what it is, that has to be what it was sent as: the digest is of the document alone, so
/// nobody vouches for the header. Source: OCI image specification, "mediaType"; distribution specification, "Pulling
/// manifests".
pub(crate) fn media_type(sent: &str, bytes: &[u8]) -> Result<MediaType, ManifestProblem> {
    let sent = essence(sent);
    let shape: Shape =
        serde_json::from_slice(bytes).map_err(|error| ManifestProblem::Json { reason: error.to_string() })?;
    if shape.schema_version == Some(1) || sent.starts_with("application/vnd.docker.distribution.manifest.v1+")
    {
        return Err(ManifestProblem::Schema1);
    }
    let own = shape.media_type.as_deref();
    let found = match (is_known(sent), own) {
        (true, Some(own)) if own != sent => {
            return Err(ManifestProblem::Ambiguous { sent: sent.to_owned(), own: own.to_owned() });
        }
        (true, _) => sent,
        // Static files, and some proxies, are sent as what they look like.
        (false, Some(own)) if is_known(own) => own,
        // Both are optional in OCI's documents, which are what has no media type of its own.
        (false, None) => match (&shape.manifests, &shape.layers) {
            (Some(_), None) => "application/vnd.oci.image.index.v1+json",
            (None, Some(_)) => "application/vnd.oci.image.manifest.v1+json",
            _ => return Err(ManifestProblem::Unknown { media_type: sent.to_owned() }),
        },
        (false, Some(own)) => {
            return Err(ManifestProblem::Ambiguous { sent: sent.to_owned(), own: own.to_owned() });
        }
    };
    Ok(MediaType::from(found))
}

/// Whether this is a media type of what is asked for.
pub(crate) fn is_known(media_type: &str) -> bool {
    matches!(kind(&MediaType::from(media_type)), Kind::Index | Kind::Manifest)
}

/// A media type without its parameters.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

    fn check(sent: &str, body: &str, expected: Result<&str, &str>) {
        let found = media_type(sent, body.as_bytes()).map(|found| found.to_string());
        let found = found.map_err(|problem| problem.to_string());
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{sent} {body}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            _ => panic!("{found:?} instead of {expected:?} for {sent} {body}"),
        }
    }

    #[test]
    fn what_is_sent_as_what_it_is() {
        check(MANIFEST, r#"{"layers":[]}"#, Ok(MANIFEST));
        check(DOCKER, &format!(r#"{{"mediaType":"{DOCKER}"}}"#), Ok(DOCKER));
        check(&format!("{INDEX}; charset=utf-8"), r#"{"manifests":[]}"#, Ok(INDEX));
    }

    #[test]
    fn what_is_sent_as_anything() {
        check("application/json", &format!(r#"{{"mediaType":"{DOCKER}"}}"#), Ok(DOCKER));
        check("", r#"{"manifests":[]}"#, Ok(INDEX));
        check("text/plain", r#"{"layers":[]}"#, Ok(MANIFEST));
        check("text/plain", r#"{"layers":[],"manifests":[]}"#, Err("sent as `text/plain`"));
        check("text/html", "{}", Err("sent as `text/html`"));
        check("application/json", r#"{"mediaType":"image/png"}"#, Err("calls itself `image/png`"));
    }

    #[test]
    fn what_is_sent_as_something_else() {
        check(INDEX, &format!(r#"{{"mediaType":"{MANIFEST}"}}"#), Err("calls itself"));
        check(MANIFEST, "<html>", Err("no JSON object"));
        check(MANIFEST, "[]", Err("no JSON object"));
    }

    #[test]
    fn schema_1() {
        check("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}", Err("schema 1"));
        check("application/json", r#"{"schemaVersion":1}"#, Err("schema 1"));
    }

    #[test]
    fn all_that_is_asked_for_is_known() {
        assert!(ACCEPTED.split(", ").all(is_known));
    }
}
