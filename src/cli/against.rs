//! `plan --against`: the images as planned, and as an images.lock of another time records them.

use std::path::Path;
use std::process::Command;

use imgforge::against::{Comparison, Layer, Shipment, Size};
use imgforge::images_lock::ImagesLock;
use serde_json::json;

use super::format;
use super::session::Failure;

/// Reads what is compared with: a file, or images.lock as a commit has it.
pub(crate) fn read(against: &str, folder: &Path) -> Result<ImagesLock, Failure> {
    let failed = |problem: String| Failure::Against { against: against.to_owned(), problem };
    let text = match Path::new(against).is_file() {
        true => fs_err::read_to_string(against).map_err(|error| failed(error.to_string()))?,
        false => of_commit(against, folder).map_err(failed)?,
    };
    ImagesLock::parse(&text).map_err(|error| failed(error.to_string()))
}

/// `git show REV:./images.lock`, in the project's folder; or what stands in the way.
fn of_commit(revision: &str, folder: &Path) -> Result<String, String> {
    // A commit is no option, whatever it is called.
    if revision.starts_with('-') || revision.is_empty() {
        return Err("there is no such file, and no commit is called so".to_owned());
    }
    let object = format!("{revision}:./images.lock");
    let output =
        Command::new("git").args(["show", "--no-textconv", &object]).current_dir(folder).output().map_err(
            |error| format!("there is no such file, and git can't be asked for a commit: {error}"),
        )?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default().trim_start_matches("fatal: ");
        return Err(format!("there is no such file, and git says: {}", format::plain(said)));
    }
    String::from_utf8(output.stdout).map_err(|_| "its images.lock is no text".to_owned())
}

/// One image's part of the text.
pub(crate) fn text(comparison: &Comparison) -> String {
    let mut text = format!("  {}\n", summary(comparison));
    let mut list = |sign: char, layers: &[Layer], note: &str| {
        for layer in layers {
            text.push_str(&format!("  {sign} {:>10}  {}{note}\n", size(layer.size), layer.title));
        }
    };
    list('+', &comparison.new, "");
    list('=', &comparison.elsewhere, " (another image has it)");
    list('-', &comparison.gone, "");
    text
}

fn summary(comparison: &Comparison) -> String {
    let Comparison { new, elsewhere, same, gone, .. } = comparison;
    let all = new.len() + elsewhere.len() + same.len();
    if new.is_empty() && elsewhere.is_empty() && gone.is_empty() {
        return format!("{all} layers, all as they were");
    }
    let shipment = Shipment::of([comparison]);
    let gone_bytes = gone.iter().map(|layer| layer.size.bytes()).sum();
    format!(
        "{all} layers: {} as they were, {} to ship ({}), {} gone ({})",
        same.len() + elsewhere.len(),
        new.len(),
        amount(&shipment),
        gone.len(),
        format::bytes(gone_bytes)
    )
}

/// What all images ship together.
pub(crate) fn total(against: &str, shipment: &Shipment) -> String {
    let configs = match shipment.configs {
        0 => String::new(),
        1 => " and 1 configuration".to_owned(),
        several => format!(" and {several} configurations"),
    };
    let layers = match shipment.layers {
        1 => "1 layer".to_owned(),
        several => format!("{several} layers"),
    };
    format!("against {against}: {layers}{configs} to ship ({})\n", amount(shipment))
}

fn amount(shipment: &Shipment) -> String {
    let about = if shipment.about > 0 { "about " } else { "" };
    let bytes = format::bytes(shipment.bytes());
    match shipment.unknown {
        0 => format!("{about}{bytes}"),
        some => format!("{about}{bytes}, without {some} of unknown size"),
    }
}

fn size(size: Size) -> String {
    match size {
        Size::Known(bytes) => format::bytes(bytes),
        Size::About(bytes) => format!("~{}", format::bytes(bytes)),
        Size::Unknown => "?".to_owned(),
    }
}

/// One image's part of `--json`.
pub(crate) fn json(comparison: &Comparison) -> serde_json::Value {
    let list = |layers: &[Layer]| -> Vec<serde_json::Value> {
        layers
            .iter()
            .map(|layer| {
                let (size, is_estimate) = match layer.size {
                    Size::Known(bytes) => (Some(bytes), false),
                    Size::About(bytes) => (Some(bytes), true),
                    Size::Unknown => (None, true),
                };
                json!({"title": layer.title, "key": layer.key, "digest": layer.digest, "size": size, "estimate": is_estimate})
            })
            .collect()
    };
    json!({
        "new": list(&comparison.new),
        "elsewhere": list(&comparison.elsewhere),
        "same": comparison.same.len(),
        "gone": list(&comparison.gone),
        "ships": shipment_json(&Shipment::of([comparison])),
    })
}

/// What is shipped, for `--json`.
pub(crate) fn shipment_json(shipment: &Shipment) -> serde_json::Value {
    json!({
        "layers": shipment.layers,
        "layer_bytes": shipment.layer_bytes,
        "configs": shipment.configs,
        "config_bytes": shipment.config_bytes,
        "bytes": shipment.bytes(),
        "estimated_layers": shipment.about,
        "layers_of_unknown_size": shipment.unknown,
    })
}
