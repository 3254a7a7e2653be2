//! A client for OCI registries.
//!
//! Source: OCI distribution specification 1.1; Docker's token authentication specification.

mod auth;
mod reference;

pub use auth::{AuthError, HelperProblem, Keychain, Secret};
pub use reference::{Reference, ReferenceError};
