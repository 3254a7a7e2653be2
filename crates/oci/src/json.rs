//! Canonical JSON (RFC 8785), the only JSON that imgforge writes.
//!
//! oci-spec keeps annotations, labels, ports and volumes in hash maps, whose order changes from run to run. Sorting at
//! the one place where values become bytes makes that harmless, for its types and for ours.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Serialises `value` with sorted keys and without white space.
///
/// # Errors
/// [`Error::Json`] when the value has no JSON form: a map whose keys are no strings, a number that is not finite.
pub fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json_canonicalizer::to_vec(value)
        .map_err(|source| Error::Json { what: std::any::type_name::<T>().to_owned(), source })
}

/// Reads `bytes` as a value, naming `what` they are in the error.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{ConfigBuilder, DescriptorBuilder, MediaType, Sha256Digest};

    use super::*;

    fn check<T: Serialize>(value: &T, expected: &str) {
        assert_eq!(String::from_utf8(canonical(value).unwrap()).unwrap(), expected);
    }

    /// Hash maps of this size come out in a wrong order practically always.
    fn many(prefix: &str) -> Vec<String> {
        (10..60).rev().map(|number| format!("{prefix}{number}")).collect()
    }

    fn sorted(keys: &[String], value: &str) -> String {
        let mut keys = keys.to_vec();
        keys.sort();
        keys.iter().map(|key| format!("\"{key}\":{value}")).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn labels_ports_and_volumes_of_oci_spec_are_sorted() {
        let (labels, ports, volumes) = (many("l"), many("8"), many("/v"));
        let config = ConfigBuilder::default()
            .labels(
                labels
                    .iter()
                    .map(|key| (key.clone(), "x".to_owned()))
                    .collect::<std::collections::HashMap<_, _>>(),
            )
            .exposed_ports(ports.clone())
            .volumes(volumes.clone())
            .build()
            .unwrap();
        let expected = format!(
            "{{\"ExposedPorts\":{{{}}},\"Labels\":{{{}}},\"Volumes\":{{{}}}}}",
            sorted(&ports, "{}"),
            sorted(&labels, "\"x\""),
            sorted(&volumes, "{}")
        );
        check(&config, &expected);
    }

    #[test]
    fn annotations_of_oci_spec_are_sorted() {
        let keys = many("k");
        let hex = "0".repeat(64);
        let descriptor = DescriptorBuilder::default()
            .media_type(MediaType::ImageManifest)
            .digest(hex.parse::<Sha256Digest>().unwrap())
            .size(7u64)
            .annotations(
                keys.iter()
                    .map(|key| (key.clone(), "x".to_owned()))
                    .collect::<std::collections::HashMap<_, _>>(),
            )
            .build()
            .unwrap();
        let expected = format!(
            "{{\"annotations\":{{{}}},\"digest\":\"sha256:{hex}\",\
             \"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"size\":7}}",
            sorted(&keys, "\"x\"")
        );
        check(&descriptor, &expected);
    }
}
