//! The program, from images.toml to images that are valid, on the repository's own images and on a small one.
//!
//! Everything here runs offline, from `vendor/`, and needs nothing but the program. What container engines make of the
//! images is the business of `engines.sh`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail as the test does")]

mod crash;
mod determinism;
mod layers;
mod links;
mod offline;
mod output;
mod poetry;
mod project;
mod sandboxed;
mod strip;
mod together;
