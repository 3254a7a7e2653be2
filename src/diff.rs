//! What sets two images apart: base, layers, packages, configuration, and what has to be sent to a host that has one of
//! them and wants the other.
//!
//! A pure comparison of values: what the images' documents say, and what [`crate::survey`] found in their layers.
//! [`surveys`] says which layers that takes, since to read all of them may mean to fetch gigabytes that both images
//! have.
//!
//! The types are what `imgforge diff --json` prints; their fields are its documentation. Sides are called *a* and *b*,
//! and differences are told as the way from *a* to *b*: what is `from` is *a*'s, what is `to` is *b*'s.

mod config;
mod layers;
mod packages;
#[cfg(test)]
mod tests;

use imgforge_oci::{Digest, Image, Platform};
use serde::Serialize;

use crate::survey::Survey;

pub use config::ConfigChange;
pub use layers::{Base, BaseName, LayerLine, Layers};
pub use packages::{PackageChange, Runtime, surveys};

/// How two images of one platform differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// One image.
    pub a: Side,
    /// The other.
    pub b: Side,
    /// What they are built on.
    pub base: Base,
    /// Which layers they have.
    pub layers: Layers,
    /// Packages that are not in both in the same version, by kind, prefix and name. Parts of packages of another kind
    /// are left out.
    pub packages: Vec<PackageChange>,
    /// Interpreters and C libraries that are not the same.
    pub runtimes: Vec<Runtime>,
    /// How containers are started otherwise.
    pub config: Vec<ConfigChange>,
    /// What a host that has *a* is to be sent for *b*.
    pub ship: Ship,
}

/// Which of two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that the way leads from.
    A,
    /// The one that it leads to.
    B,
}

/// One of two images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Its manifest.
    pub manifest: Digest,
    /// What it runs on.
    pub platform: Platform,
    /// Bytes of its layers, compressed.
    pub size: u64,
    /// How many they are.
    pub layers: usize,
}

/// What has to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ship {
    /// Blobs of *b* that *a* does not have: layers, config and manifest.
    pub blobs: usize,
    /// Their bytes, as stored.
    pub bytes: u64,
}

/// Compares two images. The surveys are those of [`surveys`], or of the whole images.
pub fn difference(a: (&Image, &Survey), b: (&Image, &Survey)) -> Difference {
    let ((a, a_survey), (b, b_survey)) = (a, b);
    Difference {
        a: side(a),
        b: side(b),
        base: layers::base(a, b),
        layers: layers::compare(a, b),
        packages: packages::compare(a_survey, b_survey),
        runtimes: packages::runtimes(a_survey, b_survey),
        config: config::compare(a, b),
        ship: layers::ship(a, b),
    }
}

impl Difference {
    /// Whether one image is the other.
    pub fn is_none(&self) -> bool {
        self.a.manifest == self.b.manifest
    }
}

fn side(image: &Image) -> Side {
    Side {
        manifest: image.descriptor().digest,
        platform: image.platform().clone(),
        size: image.layers().iter().map(|layer| layer.size).sum(),
        layers: image.layers().len(),
    }
}
