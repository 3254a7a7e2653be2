//! What an image's maker says of a layer: enough to compare packages without the layer's bytes, which may be gigabytes.
//!
//! An annotation of the layer has one package URL for each Python distribution, sorted and separated by spaces, with the
//! folder of its metadata behind `#`: `pkg:pypi/numpy@2.1.0#opt/venv/lib/python3.11/site-packages/numpy-2.1.0.dist-info`.
//! It is there only where a layer has nothing else that a survey looks for. It is a claim, whoever made the image may have
//! written anything: good enough to tell people what changes, and for nothing that is pinned.
//!
//! Source: package URLs, github.com/package-url/purl-spec.

use std::collections::{BTreeMap, BTreeSet};

use imgforge_oci::Layer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::parse;
use super::{Found, LayerSurvey};

/// The annotation of a layer's descriptor that has the claim.
pub const PACKAGES_ANNOTATION: &str = "dev.imgforge.packages";

/// What stays as it is in a package URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~').remove(b'/');

/// A Python distribution in a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distribution<'a> {
    /// Its name, normalised.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The folder with its metadata, relative: `opt/venv/lib/python3.11/site-packages/numpy-2.1.0.dist-info`.
    pub folder: String,
}

/// The annotation's text for a layer that has these and nothing else to be found.
pub fn claim(distributions: &[Distribution<'_>]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let mut urls: Vec<String> = distributions
        .iter()
        .map(|Distribution { name, version, folder }| {
            format!("pkg:pypi/{}@{}#{}", encoded(name), encoded(version), encoded(folder))
        })
        .collect();
    urls.sort();
    urls.join(" ")
}

/// The survey that a layer's annotation amounts to; nothing without one, or when it can't be read.
pub fn claimed(layer: &Layer) -> Option<LayerSurvey> {
    let text = layer.annotations.get(PACKAGES_ANNOTATION)?;
    let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    let (mut found, mut top) = (BTreeMap::new(), BTreeSet::new());
    for url in text.split(' ') {
        let (package, folder) = url.strip_prefix("pkg:pypi/")?.split_once('#')?;
        let (name, version) = package.split_once('@')?;
        let path = format!("{}/METADATA", decoded(folder)?);
        parse::site(&path)?;
        top.insert(path.split('/').next().unwrap_or_default().to_owned());
        found.insert(path, Found::Distribution { name: decoded(name)?, version: decoded(version)? });
    }
    Some(LayerSurvey {
        diff_id: layer.diff_id,
        removed: BTreeSet::new(),
        emptied: BTreeSet::new(),
        covering_links: BTreeSet::new(),
        covering_files: BTreeSet::new(),
        top,
        found,
    })
}

#[cfg(test)]
mod tests {
    use imgforge_oci::{DiffId, Digest};

    use super::*;

    /// What is found in a layer with this annotation.
    #[track_caller]
    fn check(text: &str, expected: Option<&[(&str, &str, &str)]>) {
        let digest = Digest::of(b"");
        let layer = Layer {
            digest,
            diff_id: DiffId(digest),
            size: 0,
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            history: String::new(),
            annotations: [(PACKAGES_ANNOTATION.to_owned(), text.to_owned())].into(),
        };
        let found = claimed(&layer).map(|survey| survey.found);
        let expected = expected.map(|expected| {
            let entry = |(path, name, version): &(&str, &str, &str)| {
                let (name, version) = ((*name).to_owned(), (*version).to_owned());
                ((*path).to_owned(), Found::Distribution { name, version })
            };
            expected.iter().map(entry).collect::<BTreeMap<_, _>>()
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn there_and_back() {
        let folder = "opt/v env/lib/python3.11/site-packages/torch-2.9.0+cu128.dist-info";
        let text =
            claim(&[Distribution { name: "torch", version: "2.9.0+cu128", folder: folder.to_owned() }]);
        assert_eq!(
            text,
            "pkg:pypi/torch@2.9.0%2Bcu128#opt/v%20env/lib/python3.11/site-packages/torch-2.9.0%2Bcu128.dist-info"
        );
        check(&text, Some(&[(&format!("{folder}/METADATA"), "torch", "2.9.0+cu128")]));
    }

    #[test]
    fn what_is_no_claim_is_none() {
        for text in ["", "pkg:deb/x@1#a", "pkg:pypi/x@1", "pkg:pypi/x#a", "pkg:pypi/x@1#etc/passwd"] {
            check(text, None);
        }
    }
}
