//! A client for OCI registries: reading manifests and blobs, and writing them with as little on the line as can be.
//!
//! - [`Client`] knows how to speak to each host: TLS or not, with which certificates;
//! - [`Repository`] reads and writes in one repository of a host;
//! - [`Reference`] names what is in one, [`Keychain`] has what proves who we are.
//!
//! Everything waits for its answer; many things at a time are many threads ([`in_parallel`]). Nothing is read from
//! HOME, and from the environment only what the TLS and HTTP libraries read themselves: proxies, `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`. The clock is only asked how long a token has been there.
//!
//! # Who is believed
//! Nobody. What is read by digest is compared with it, by the store or by [`imgforge_oci::Blob::verified`]. Credentials
//! go to the registry's own origin and to the token server that it may name; wherever else it sends us, by redirect or
//! as the place of an upload, we go without them, or not at all.
//!
//! # Why not a crate
//! oci-client does the protocol's good days. It tries nothing twice and goes on with no upload, follows redirects as
//! its HTTP library does, sends a user's password to whatever token server a registry names, and knows one account per
//! host. What it leaves to do is most of what is here.
//!
//! Source: OCI distribution specification 1.1; Docker's token authentication specification.

mod auth;
mod client;
mod content;
mod document;
mod error;
mod pull;
mod push;
mod reference;
mod said;
mod scope;
mod session;
mod token;
mod upload;

pub use auth::{AuthError, HelperProblem, Keychain, Secret};
pub use client::{Client, Repository, Settings};
pub use content::{Content, FileContent};
pub use error::{Error, ManifestProblem};
pub use imgforge_http::{Event, Patience, Reason, in_parallel};
pub use pull::TagOrDigest;
pub use push::Uploaded;
pub use reference::{Reference, ReferenceError};

/// Learns what happens to a transfer, in the order in which it does.
pub type OnEvent<'a> = &'a dyn Fn(Event<'_>);
