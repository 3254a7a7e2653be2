//! Keeps a hostile lock from taking the process with it.
//!
//! rattler sorts packages recursively and asserts a few of its invariants, because it reads locks that its own tools wrote. So
//! the work runs on a thread of its own: with room for deep recursion, and with a panic becoming an error.

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
        thread.join().unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panic without a message");
            Err(internal(plain_text(message)))
        })
    })
}
