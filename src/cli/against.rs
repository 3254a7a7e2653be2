//! `plan --against`: the images as planned, and as an images.lock of another time records them.

use imgforge::against::{Comparison, Layer, Shipment, Size};
use serde_json::json;

use super::format;

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
