//! Who we are, to which registry.
//!
//! Owns: what auth files say ([`Keychain`]), asking credential helpers, what a registry asks for ([`challenges`]), and
//! to whom its credentials may go ([`realm_may_have`]). Sends nothing itself.
//!
//! The files are docker's config.json and podman's auth.json, containers-auth.json(5). They come in as texts: where
//! they lie is for the program to say. The crate docker_credential reads one such file, but knows no namespaced keys
//! and no `registrytoken`, gives a helper all the time in the world and shows what it printed, credentials or not.
//! Reading the challenges is left to the crate http-auth, whose parser was fuzzed against the grammar of RFC 7235.

mod challenge;
mod file;
mod helper;
mod keychain;
mod realm;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

pub(crate) use challenge::{Challenge, challenges};
pub use helper::HelperProblem;
pub use keychain::Keychain;
pub(crate) use realm::realm_may_have;

/// One way to prove who we are. Shows nothing of it when printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A user and a password, or what stands for one.
    Basic {
        /// The user; some registries have fixed names for tokens of several kinds.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that its registry's token server changes for others (OAuth 2's refresh token).
    IdentityToken(String),
    /// A token that the registry takes as it is.
    RegistryToken(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Credentials that can't be had. Does not quote them.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Not the JSON of an auth file.
    #[error(
        "{}, line {line}, column {column}: no auth file: expected a JSON object with `auths`, `credHelpers` or \
         `credsStore`",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Where it is wrong, from 1.
        line: usize,
        /// Where it is wrong, from 1.
        column: usize,
    },
    /// An entry of `auths` that can't be understood.
    #[error("{}: `auth` of {host} is not the base64 of USER:PASSWORD; run `podman login {host}` or `docker login {host}`", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Whose entry it is.
        host: String,
    },
    /// A credential helper that did not answer.
    #[error("{}: {helper}, for {server}, {problem}", path.display())]
    Helper {
        /// The file that names it.
        path: PathBuf,
        /// The program: `docker-credential-…`.
        helper: String,
        /// What it was asked for.
        server: String,
        /// What was wrong.
        problem: HelperProblem,
    },
}
