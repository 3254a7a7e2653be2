//! Builds container images from lock files, without a Docker daemon.

pub mod fetch;
