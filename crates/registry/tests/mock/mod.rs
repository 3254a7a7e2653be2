//! Servers that are good registries, but for what a test has them do wrong.
//!
//! [`Registry`] is what a registry knows and how it should answer. A [`Server`] is an origin that answers with it,
//! and breaks [`Rule`]s on the way: another answer, half of one, a connection reset in the middle of a request. It
//! keeps a record of each request with all its headers, so that a test can look for what should not have come.

mod registry;
mod rule;
mod server;
mod world;

pub use registry::{Auth, IDENTITY, PASSWORD, Registry, USER, refusal};
pub use rule::{Deed, Rule, Step, on};
pub use server::{Answer, Ending, Head, Length, Seen, Server};
pub use world::{Layer, World, check, layer, noise};
