//! Wheels of projects that are installed for development: `editable` in images.toml.

use std::sync::Arc;

use imgforge_layer::TreePath;
use imgforge_layer::wheel::Scheme;
use imgforge_resolver::Artifact;
use serde_json::json;

use super::{Recipe, Unit};
use crate::plan::Rank;

/// A wheel whose modules are imported from a folder of the image.
#[derive(Clone, Debug)]
pub struct EditableUnit {
    /// The project's wheel.
    pub artifact: Artifact,
    /// The environment's.
    pub scheme: Scheme,
    /// The folder that is put on `sys.path`.
    pub sources: TreePath,
    /// The lock's path as images.toml has it, for messages.
    pub lock: String,
}

impl Unit {
    /// A wheel, installed for development.
    pub fn editable(unit: EditableUnit) -> Self {
        let EditableUnit { artifact, scheme, sources, .. } = &unit;
        let (major, minor) = scheme.python();
        let identity = json!({
            "editable": artifact.sha256,
            "file": artifact.file,
            "prefix": scheme.prefix().to_string(),
            "python": format!("{major}.{minor}"),
            "site-packages": scheme.site_packages(),
            "sources": sources.to_string(),
        });
        let title = format!("{} {} from {sources}", artifact.name, artifact.version);
        let (name, size) = (artifact.name.clone(), artifact.size);
        Self::new(Rank::Packages, &name, &title, size, &identity, Recipe::Editable(Arc::new(unit)))
    }
}
