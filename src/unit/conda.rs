//! Conda packages as units: what decides their bytes, and how they are linked.

use std::collections::BTreeSet;
use std::sync::Arc;

use imgforge_layer::{Strip, TreePath};
use imgforge_layer_conda as conda;
use imgforge_oci::Digest;
use imgforge_resolver::{CondaPackage, CondaPython, Location};
use serde_json::json;

use super::{Input, digest};
use crate::Error;
use crate::workshop::Workshop;

/// A conda package at a prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct CondaUnit {
    /// The package. It has its SHA-256.
    pub package: CondaPackage,
    /// Where its environment lies.
    pub prefix: TreePath,
    /// The environment's Python, for a package that is linked for one.
    pub python: Option<CondaPython>,
    /// The lock's path as images.toml has it, for messages.
    pub lock: String,
}

impl CondaUnit {
    /// Everything that decides its bytes.
    pub(super) fn identity(&self) -> serde_json::Value {
        let CondaPackage { file, sha256, record, .. } = &self.package;
        // A record says where its channel is, and so does the package's file in conda-meta.
        let channel = match (record, &self.package.location) {
            (None, Location::Url(url)) => Some(url),
            _ => None,
        };
        json!({
            "conda": sha256,
            "file": file,
            "prefix": self.prefix.to_string(),
            "python": self.python,
            "record": record,
            "channel": channel,
        })
    }

    pub(super) fn title(&self) -> String {
        let CondaPackage { name, version, build, .. } = &self.package;
        match build.is_empty() {
            true => format!("{name} {version}"),
            false => format!("{name} {version} {build}"),
        }
    }

    /// The package as it is linked, from the archive that is in the store.
    ///
    /// # Errors
    /// [`Error::Unit`], with what is wrong with the package.
    pub fn plan(&self, workshop: &Workshop<'_>) -> Result<conda::Planned, Error> {
        let error =
            |source: Box<dyn std::error::Error + Send + Sync>| Error::Unit { unit: self.title(), source };
        let CondaPackage { file, record, location, md5, .. } = &self.package;
        let sha256 = digest(self.package.sha256.as_deref().unwrap_or_default())?;
        let package = conda::Package {
            file_name: file,
            record: record.as_ref(),
            url: match location {
                Location::Url(url) => Some(url),
                Location::Path(_) => None,
            },
            sha256: Some(sha256),
            md5: md5.as_deref(),
        };
        let python = match &self.python {
            Some(python) => Some(
                conda_python(python)
                    .ok_or_else(|| error(format!("`{}` is no version of CPython", python.version).into()))?,
            ),
            None => None,
        };
        let installation = conda::Installation { prefix: &self.prefix, python: python.as_ref() };
        let source = workshop.open(sha256)?;
        let planned = conda::plan(&source, &package, &installation, &workshop.scratch())
            .map_err(|source| error(source.into()))?;
        let record = planned.record.json().map_err(|source| error(source.into()))?;
        workshop.store.put_record(RECORDS, &self.key(), &record, &[])?;
        Ok(planned)
    }

    /// The package's record in `conda-meta`, which is known when the package was planned once; otherwise that is done.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan).
    pub fn record(&self, workshop: &Workshop<'_>) -> Result<conda::Record, Error> {
        let known: Option<String> = workshop.store.record(RECORDS, &self.key())?;
        if let Some(record) = known.and_then(|json| conda::Record::parse(&json).ok()) {
            return Ok(record);
        }
        workshop.fetch_inputs(&[Input::of_conda(self)])?;
        Ok(self.plan(workshop)?.record)
    }

    fn key(&self) -> String {
        Digest::of(self.identity().to_string().as_bytes()).hex()
    }
}

/// The bucket of conda packages' records, by what decides them.
const RECORDS: &str = "conda/1";

fn conda_python(python: &CondaPython) -> Option<conda::Python> {
    let mut parts = python.version.split('.').map(|part| part.parse().ok());
    let version = (parts.next()??, parts.next()??);
    Some(conda::Python { version, site_packages: python.site_packages.clone() })
}

/// What conda packages of an environment disagree about.
#[derive(Clone, Debug)]
pub struct Clobbers {
    /// All conda packages of the environment.
    pub packages: Vec<Arc<CondaUnit>>,
    /// Those whose files the layer has, as positions among the packages.
    pub concerned: BTreeSet<usize>,
    /// What the image leaves out of the environment's packages.
    pub strip: Strip,
}
