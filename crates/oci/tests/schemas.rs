//! What this crate writes, judged by the specification's own JSON schemas.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail so, in its helpers too")]

mod common;

use std::collections::BTreeMap;

use common::{Store, reference};
use imgforge_oci::{BaseImage, Compression, Image, ImageConfig};
use serde_json::Value;

/// The schemas refer to each other by file name, relative to their identifiers.
fn schema(name: &str) -> Value {
    let path = format!("{}/tests/schemas/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    // The identifiers inside name nothing that could be fetched, and one of them would move the base of `$ref`.
    strip(&mut schema);
    schema
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("id").is_some_and(Value::is_string) {
                members.remove("id");
            }
            members.remove("$schema");
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

struct Local;

impl jsonschema::Retrieve for Local {
    fn retrieve(
        &self,
        uri: &jsonschema::Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Ok(schema(uri.path().as_str().trim_start_matches('/')))
    }
}

fn check(name: &str, document: &[u8]) -> Result<(), String> {
    let document: Value = serde_json::from_slice(document).unwrap();
    let validator = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft4)
        .with_base_uri("file:///schema.json")
        .with_retriever(Local)
        .should_validate_formats(true)
        .build(&schema(name))
        .unwrap();
    let errors: Vec<_> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

#[test]
fn full_and_empty_images() {
    let store = Store::new();
    let full = store.small("linux/arm/v7", "text");
    let layer = store.layer(Compression::Zstd, &[("a", "b")]);
    let plain =
        Image::assemble(&ImageConfig::new("linux/amd64".parse().unwrap()), &[layer], &BTreeMap::new());
    for image in [full, plain.unwrap()] {
        check("image-manifest-schema.json", image.manifest().bytes()).unwrap();
        check("config-schema.json", image.config().bytes()).unwrap();
    }
}

/// Docker writes null where the schema wants a list or nothing.
#[test]
fn an_image_on_a_base() {
    let store = Store::new();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "author": null, "created": "2024-05-01T01:02:03.456789Z",
        "config": {"Env": null, "Volumes": null, "OnBuild": null, "ExposedPorts": null, "User": "", "Cmd": ["sh"]},
    });
    let base = store.docker_image(config, &[store.layer(Compression::Gzip, &[("a", "b")])]);
    let digest = base.manifest().descriptor().digest;
    let base = BaseImage { image: &base, name: None, digest };
    for config in [common::config("linux/amd64"), ImageConfig::new("linux/amd64".parse().unwrap())] {
        let layer = store.layer(Compression::Zstd, &[("c", "d")]);
        let image = Image::assemble_on(&base, &config, &[layer], &BTreeMap::new()).unwrap();
        check("image-manifest-schema.json", image.manifest().bytes()).unwrap();
        check("config-schema.json", image.config().bytes()).unwrap();
    }
}

#[test]
fn indexes_and_layouts() {
    let store = Store::new();
    let index = store.index(&[store.small("linux/arm64", "a"), store.small("linux/amd64", "b")]);
    check("image-index-schema.json", index.blob().bytes()).unwrap();
    store.write(&[reference("app", index.descriptor().clone())]);
    let file = |name: &str| std::fs::read(store.path("dist").join(name)).unwrap();
    check("image-index-schema.json", &file("index.json")).unwrap();
    check("image-layout-schema.json", &file("oci-layout")).unwrap();
    let entry: Value = serde_json::from_slice::<Value>(&file("index.json")).unwrap()["manifests"][0].clone();
    check("content-descriptor.json", entry.to_string().as_bytes()).unwrap();
}

/// The schemas do say no: a judge that accepts everything would prove nothing.
#[test]
fn the_schemas_judge() {
    assert!(check("image-manifest-schema.json", b"{}").is_err());
    assert!(check("image-layout-schema.json", br#"{"imageLayoutVersion":"2"}"#).is_err());
    assert!(check("config-schema.json", br#"{"os":"linux","architecture":1,"rootfs":{}}"#).is_err());
    let descriptor = br#"{"mediaType":"x","digest":"sha256:00","size":1}"#;
    assert!(check("content-descriptor.json", descriptor).is_err());
}
