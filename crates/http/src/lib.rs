//! HTTP: what fetching artifacts and talking to registries have in common.
//!
//! - [`Http`] sends one request and reads its answer, in pieces that may take as long as they want between them as the
//!   [`Patience`] allows;
//! - [`follow`] goes where a request is redirected, and has its caller [`Carry`] it there: no library decides who gets
//!   which credentials;
//! - [`Retries`] and [`persist`] try again what may pass, and give up on what will not: a [`Trouble`] is one or the
//!   other, and has a [`Reason`] in words which never has a credential in it;
//! - [`in_parallel`] does many pieces of work on a few threads, until one fails;
//! - [`Download`] completes a blob over as many connections as that takes.
//!
//! It knows neither what is transferred nor who asks.
//!
//! # Calls that wait, on connections that don't
//! Everything here blocks: a dozen transfers are a dozen threads of the caller. Beneath, connections are driven by
//! [reqwest]'s asynchronous client, on a small runtime that each [`Http`] owns. `reqwest::blocking` would be the same
//! arrangement ready made, but it sends a body that is read from a file in pieces of 8 KiB, each handed to another
//! thread (see [`Http::upload`] for what that costs), and has one time limit for the whole of a request, however large:
//! a server that falls silent in the middle of an upload could not be told from a slow line.

mod client;
mod download;
mod parallel;
mod patience;
mod reason;
mod redirect;

pub use client::{Http, Request, Response, SetupError};
pub use download::{Download, Event, Outcome};
pub use parallel::in_parallel;
pub use patience::{Halt, Patience, Retries, Trouble, persist, sleep};
pub use reason::{Reason, chain, redacted};
pub use redirect::{Carry, Hop, bare, basic, follow};
