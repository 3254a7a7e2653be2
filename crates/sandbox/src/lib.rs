//! One command in a root filesystem made of layers, with no network.
//!
//! Owns: unpacked layers, the processes and namespaces of a sandbox, what its command may do, and taking its outputs. Knows
//! nothing of why a command runs, of images or of configuration. It is for commands that nobody vouches for: what they
//! can reach is what was given to them.
//!
//! # Processes
//! ```text
//! imgforge ──────────── many threads; asks, listens, takes outputs            (launch, run, sandbox)
//!  └ supervisor ─────── the same program, executed anew: one thread, no environment   (supervisor)
//!     └ first process ─ in all namespaces; mounts, watches, collects               (init, root, watch, collect)
//!        └ command ──── in addition without capabilities, privileges, descriptors, and many system calls
//!           └ …                                                                          (confine, seccomp)
//! ```
//! Why it is executed anew rather than forked is told in `supervisor`, who its users are on the host in `ids`.
//!
//! # On disk
//! ```text
//! STORE/
//!   unpacked/<format>/<ids>/<diff ID>       the store's record: this layer is unpacked; its date is its last use
//!   rootfs/<format>/<ids>/<diff ID>/        mode 0700, so that a set-uid file in it is nobody's to run
//!     root/                                 the layer's own folder: files, whiteouts and all
//!   tmp/folder-…/root/                      a layer that is being unpacked
//!   tmp/folder-…/{upper,work,root,outputs}  a run: see [`Kept`]
//! ```
//! A layer is unpacked by somebody who holds the work lock `rootfs/…/<diff ID>`; it is on the disk before it is renamed
//! into place, and in place before it is recorded. So a folder without a record is one whose maker was killed, or whose
//! record the collector removed, and [`Sandbox::sweep`] removes it; a run keeps the collector away by a lease.
//! Nobody writes to an unpacked layer: overlayfs reads it, and so does a copy.
//!
//! # Failing
//! Every step of making a sandbox is checked, and one that fails is [`Error::Denied`] with what to enable, or
//! [`Error::Setup`]. No command runs in a part of a sandbox. Only joining layers has two ways, which come to the same.

mod attributes;
mod collect;
mod command;
mod confine;
mod difference;
mod error;
mod extract;
mod hint;
mod host;
mod ids;
mod init;
mod launch;
mod message;
mod root;
mod run;
mod sandbox;
mod seccomp;
mod supervisor;
mod union;
mod watch;

pub use command::{Command, Exit, Finished, Joined, Limit, Limits, Network, Outputs, User};
pub use error::Error;
pub use launch::{init_if_asked, launch_with};
pub use run::Kept;
pub use sandbox::{Layer, Root, Sandbox};
