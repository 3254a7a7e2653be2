//! Keeps a hostile lock from taking the process with it.
//!
//! rattler sorts packages recursively and asserts a few of its invariants, because it reads locks that its own tools wrote. So
//! the work runs on a thread of its own: with room for deep recursion, and with a panic becoming an error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{Error, plain_text};

/// Bytes of stack: enough for a chain of as many packages as [`crate::package::LIMIT`] allows.
const STACK: usize = 64 << 20;

/// Runs `work` on what is read from `file`.
pub(crate) fn guarded<T: Send>(
    file: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let internal = |message: String| Error::Internal { file: file.to_owned(), message };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("conda".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| internal(error.to_string()))?;
        thread.join().unwrap_or_else(|panic| Err(internal(message(panic.as_ref()))))
    })
}

/// Runs another crate's reader on text that it may not be made for: its panic is a message about the text.
///
/// One that is known: `pep508_rs` 0.9 expects that no requirement has a name such as `fla-`.
pub(crate) fn read<T, E>(
    reader: impl FnOnce() -> Result<T, E>,
    words: impl FnOnce(E) -> String,
) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(reader)) {
        Ok(result) => result.map_err(words),
        Err(panic) => Err(message(panic.as_ref())),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic without a message");
    plain_text(message)
}
