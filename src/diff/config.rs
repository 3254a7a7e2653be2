use std::collections::BTreeMap;

use imgforge_oci::Image;
use serde::Serialize;
use serde_json::{Value, json};

use super::packages::changes;

/// A setting that two images don't both have with the same value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    /// `entrypoint`, `cmd`, `user`, `workdir`, `stop-signal`, `env`, `label`, `port`, `volume`.
    pub setting: &'static str,
    /// Which variable, label, port or volume; nothing for what there is one of.
    pub name: Option<String>,
    /// *a*'s value: a text, a list of texts for `entrypoint` and `cmd`, `true` for a port or a volume.
    pub from: Option<Value>,
    /// *b*'s.
    pub to: Option<Value>,
}

pub(super) fn compare(a: &Image, b: &Image) -> Vec<ConfigChange> {
    let changes = changes(&settings(a), &settings(b), Value::clone).into_iter();
    changes.map(|((_, setting, name), from, to)| ConfigChange { setting, name, from, to }).collect()
}

/// The settings in the order in which they are told.
type Settings = BTreeMap<(usize, &'static str, Option<String>), Value>;

fn settings(image: &Image) -> Settings {
    let mut settings = Settings::new();
    let Some(config) = image.configuration().config() else { return settings };
    for (order, setting, list) in [(0, "entrypoint", config.entrypoint()), (1, "cmd", config.cmd())] {
        // To runtimes an empty list is none.
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            settings.insert((order, setting, None), json!(list));
        }
    }
    let texts = [
        (2, "user", config.user()),
        (3, "workdir", config.working_dir()),
        (4, "stop-signal", config.stop_signal()),
    ];
    for (order, setting, text) in texts {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            settings.insert((order, setting, None), json!(text));
        }
    }
    for variable in config.env().iter().flatten() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        settings.insert((5, "env", Some(name.to_owned())), json!(value));
    }
    for (name, value) in config.labels().iter().flatten() {
        settings.insert((6, "label", Some(name.clone())), json!(value));
    }
    for (order, setting, names) in [(7, "port", config.exposed_ports()), (8, "volume", config.volumes())] {
        for name in names.iter().flatten() {
            settings.insert((order, setting, Some(name.clone())), json!(true));
        }
    }
    settings
}
