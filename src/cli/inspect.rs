//! What is in the images of an output, as text, as JSON, or as a page.

mod page;
mod treemap;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use imgforge::image::{CONTENT_ANNOTATION, KEY_ANNOTATION};
use imgforge::workshop;
use imgforge_oci::{Digest, Image, Layer, Ref, archive, layout, read};
use imgforge_store::Store;
use serde_json::json;

use super::args::{Global, Inspect};
use super::format;
use super::progress::Progress;
use super::session::{self, Failure, must_exist, print, print_json};
use page::{Page, PageImage, PageLayer};

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
    if let Some(file) = &args.html {
        let place = args.output.display().to_string();
        write(file, &page(global, place, &selected, &images)?.html())?;
        Progress::new(global.quiet).line(&format!("{} written", file.display()));
        if !global.json {
            return Ok(());
        }
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
                let content = content(layer);
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

/// What a layer says of itself.
fn content(layer: &Layer) -> &str {
    layer.annotations.get(CONTENT_ANNOTATION).unwrap_or(&layer.history)
}

/// The page of the selected images. Who shares a layer is counted among all of them.
fn page(
    global: &Global,
    place: String,
    selected: &[&(&Ref, Vec<Image>)],
    all: &[(&Ref, Vec<Image>)],
) -> Result<Page, Failure> {
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for image in all.iter().flat_map(|(_, images)| images) {
        let mut own: Vec<Digest> = image.layers().iter().map(|layer| layer.digest).collect();
        own.sort_unstable();
        own.dedup();
        for digest in own {
            *users.entry(digest).or_default() += 1;
        }
    }
    // The store knows what is in a layer, package by package. Without it a layer is one area.
    let store = session::store(global).ok();
    let mut page = Page {
        place,
        images: Vec::new(),
        layers: Vec::new(),
        family: all.iter().map(|(_, images)| images.len()).sum(),
    };
    let mut known: BTreeMap<Digest, usize> = BTreeMap::new();
    for (reference, found) in selected {
        for image in found {
            let mut layers = Vec::new();
            for layer in image.layers() {
                let next = page.layers.len();
                let at = *known.entry(layer.digest).or_insert(next);
                if at == next {
                    page.layers.push(PageLayer {
                        digest: layer.digest,
                        diff_id: layer.diff_id,
                        size: layer.size,
                        content: packages(store.as_ref(), layer),
                        users: users.get(&layer.digest).copied().unwrap_or_default(),
                    });
                }
                layers.push(at);
            }
            let platform = if found.len() > 1 { format!(" {}", image.platform()) } else { String::new() };
            page.images.push(PageImage {
                name: format!("{}{platform}", reference.name()),
                digest: image.descriptor().digest,
                layers,
            });
        }
    }
    Ok(page)
}

/// What a layer is made of, each with its share of the layer's bytes.
fn packages(store: Option<&Store>, layer: &Layer) -> Vec<(String, u64)> {
    let key = layer.annotations.get(KEY_ANNOTATION);
    // A listing that is not there, or not of this layer, is done without.
    let listing =
        store.zip(key).and_then(|(store, key)| workshop::listing_of(store, key, layer.digest).ok()?);
    let sizes = listing.map(|listing| listing.sizes()).unwrap_or_default();
    shares(layer.size, sizes).unwrap_or_else(|| vec![(content(layer).to_owned(), layer.size)])
}

/// Divides a layer's bytes as sizes are divided; what is left by rounding goes to the first. Nothing where there is
/// nothing to divide by.
fn shares(bytes: u64, mut sizes: Vec<(String, u64)>) -> Option<Vec<(String, u64)>> {
    let total: u128 = sizes.iter().map(|(_, size)| u128::from(*size)).sum();
    if total == 0 {
        return None;
    }
    let mut left = bytes;
    for (_, size) in &mut sizes {
        let share = u128::from(bytes) * u128::from(*size) / total;
        *size = u64::try_from(share).unwrap_or(bytes);
        left = left.saturating_sub(*size);
    }
    if let Some((_, size)) = sizes.first_mut() {
        *size += left;
    }
    Some(sizes)
}

/// Writes a file whole or not at all.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(imgforge::Error::NoFolder { folder: folder.to_owned(), file: file.to_owned() }.into());
    }
    let mut draft = tempfile::Builder::new()
        .prefix(".imgforge.")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(Failure::File)?;
    draft.write_all(text.as_bytes()).map_err(Failure::File)?;
    draft.persist(file).map_err(|error| Failure::File(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_divided_to_the_last_byte() {
        let sizes = |sizes: &[u64]| sizes.iter().map(|size| (String::new(), *size)).collect::<Vec<_>>();
        assert_eq!(shares(100, sizes(&[1, 1, 1])), Some(sizes(&[34, 33, 33])));
        assert_eq!(shares(100, sizes(&[0, 7])), Some(sizes(&[0, 100])));
        assert_eq!(shares(100, sizes(&[0])), None);
        assert_eq!(shares(u64::MAX, sizes(&[u64::MAX, u64::MAX])).map(|all| all[0].1), Some(1 << 63));
    }
}
