//! Counts the words of a text, in Rust.

use unicode_segmentation::UnicodeSegmentation;

/// How many words there are in `len` bytes of UTF-8; nothing else has any.
///
/// # Safety
/// `text` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tally_words(text: *const u8, len: usize) -> usize {
    let bytes = unsafe { std::slice::from_raw_parts(text, len) };
    std::str::from_utf8(bytes).map_or(0, |text| text.unicode_words().count())
}
