use std::collections::BTreeMap;

use imgforge::image::CONTENT_ANNOTATION;
use imgforge_oci::{Digest, Image, Ref, archive, layout, read};
use serde_json::json;

use super::args::{Global, Inspect};
use super::format;
use super::session::{Failure, must_exist, print, print_json};

pub(crate) fn run(global: &Global, args: Inspect) -> Result<(), Failure> {
    must_exist(&args.output)?;
    let medium = match args.output.is_dir() {
        true => layout::open(&args.output)?,
        false => archive::open(&args.output)?,
    };
    let refs = read::refs(&medium)?;
    let mut images: Vec<(&Ref, Vec<Image>)> = Vec::new();
    for reference in &refs {
        images.push((reference, read::images(&medium, reference.descriptor())?));
    }
    // Which references have a layer.
    let mut users: BTreeMap<Digest, Vec<&str>> = BTreeMap::new();
    for (reference, found) in &images {
        for layer in found.iter().flat_map(Image::layers) {
            let names = users.entry(layer.digest).or_default();
            if names.last() != Some(&reference.name()) {
                names.push(reference.name());
            }
        }
    }
    let wanted = |name: &str| match &args.image {
        Some(wanted) => name == wanted || name.rsplit_once(':').is_some_and(|(image, _)| image == wanted),
        None => true,
    };
    let selected: Vec<_> = images.iter().filter(|(reference, _)| wanted(reference.name())).collect();
    if selected.is_empty() {
        let names: Vec<_> = refs.iter().map(Ref::name).collect();
        let place = args.output.display();
        return Err(Failure::Check(format!("{place} has no such image; it has {}", names.join(", "))));
    }
    let mut text = String::new();
    let mut values = Vec::new();
    for (reference, found) in selected {
        for image in found {
            let size: u64 = image.layers().iter().map(|layer| layer.size).sum();
            text.push_str(&format!(
                "{} {} {}\n  {} in {} layers\n",
                reference.name(),
                image.platform(),
                image.descriptor().digest,
                format::bytes(size),
                image.layers().len()
            ));
            let mut layers = Vec::new();
            for layer in image.layers() {
                let content = layer.annotations.get(CONTENT_ANNOTATION).unwrap_or(&layer.history);
                let others: Vec<_> = users
                    .get(&layer.digest)
                    .into_iter()
                    .flatten()
                    .filter(|name| **name != reference.name())
                    .copied()
                    .collect();
                let shared = match others.is_empty() {
                    true => String::new(),
                    false => format!("  (also in {})", others.join(", ")),
                };
                let digest: String = layer.digest.hex().chars().take(12).collect();
                text.push_str(&format!("  {digest} {:>10}  {content}{shared}\n", format::bytes(layer.size)));
                layers.push(json!({
                    "digest": layer.digest,
                    "diff_id": layer.diff_id,
                    "size": layer.size,
                    "media_type": layer.media_type.to_string(),
                    "content": content,
                    "shared_with": others,
                }));
            }
            values.push(json!({
                "reference": reference.name(),
                "platform": image.platform(),
                "manifest": image.descriptor().digest,
                "size": size,
                "layers": layers,
            }));
        }
    }
    match global.json {
        true => print_json(&json!({"version": 1, "images": values})),
        false => print(&text),
    }
}
