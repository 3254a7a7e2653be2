//! Keeps a hostile lock from taking the process with it.
//!
//! uv's marker parser is recursive and a few of its invariants are asserted, because uv reads locks that uv wrote. So
//! the text is checked for its depth, and the work runs on a thread of its own: with room for deep recursion, and with a
//! panic becoming an error.

use std::path::Path;

use crate::error::{Error, plain_text};

/// Parentheses that may be open at once: uv itself writes a handful.
const DEPTH: usize = 200;

/// Bytes of stack. In a debug build, a level of the marker parser takes a few KiB.
const STACK: usize = 64 << 20;

/// Runs `work` on `text`, which comes from `file`.
pub(crate) fn guarded<T: Send>(
    text: &str,
    file: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    check_depth(text, file)?;
    let internal = |message: String| Error::Internal { file: file.to_owned(), message };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("lock".to_owned())
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

/// Refuses text that nests deeper than any tool writes.
pub(crate) fn check_depth(text: &str, file: &Path) -> Result<(), Error> {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return Err(Error::Nesting { file: file.to_owned(), limit: DEPTH });
        }
    }
    Ok(())
}
