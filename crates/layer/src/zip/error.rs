//! Why an archive is refused.

use std::fmt;
use std::io;

/// Why an archive is refused. Offsets are bytes from the start of the archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),

    /// Nothing at the end of the file looks like an archive's end.
    #[error("not a zip archive: no end record within the last {searched} of {len} bytes")]
    NoEndRecord {
        /// Bytes that were searched.
        searched: u64,
        /// Bytes of the file.
        len: u64,
    },

    /// The archive ends before or behind the file's end.
    #[error("the archive should end with its comment at byte {end}, but the file has {len} bytes")]
    BytesAfterEnd {
        /// Where the last end record's comment ends.
        end: u64,
        /// Bytes of the file.
        len: u64,
    },

    /// Two places could be taken for the end record, and two readers would see two archives.
    #[error("two end records fit the end of the file, at byte {first} and at byte {second}")]
    TwoEndRecords {
        /// Offset of one.
        first: u64,
        /// Offset of the other.
        second: u64,
    },

    /// A record has fewer bytes than it needs.
    #[error("{record} at byte {offset} is cut off: only {available} bytes are left for it")]
    Truncated {
        /// Which record.
        record: &'static str,
        /// Where it begins.
        offset: u64,
        /// Bytes that there are.
        available: u64,
    },

    /// A record does not begin as it must.
    #[error("no {record} at byte {offset}: it begins with {found:#010x} instead of {expected:#010x}")]
    Signature {
        /// Which record.
        record: &'static str,
        /// Where it should be.
        offset: u64,
        /// What is there.
        found: u32,
        /// What should be there.
        expected: u32,
    },

    /// A field of the end records has a value that a plain archive in one file does not have.
    #[error("{field} of the {record} is {found}, expected {expected}")]
    EndField {
        /// Which record.
        record: &'static str,
        /// Which field.
        field: &'static str,
        /// What it says.
        found: u64,
        /// What it should say.
        expected: u64,
    },

    /// A field says that its value is in a Zip64 record or extra field, which is not there.
    #[error("{field} of {owner} is all ones, which refers to a Zip64 value that is missing")]
    Zip64Missing {
        /// The record or the entry.
        owner: String,
        /// Which field.
        field: &'static str,
    },

    /// The central directory does not reach exactly from the last entry to the end records.
    #[error("the central directory should end at byte {end}, but the end records begin at byte {expected}")]
    DirectoryEnd {
        /// Its offset plus its size.
        end: u64,
        /// Where it has to end.
        expected: u64,
    },

    /// The announced entries don't fill the announced bytes of the central directory.
    #[error("the central directory has {bytes} more bytes after the {entries} entries that it announces")]
    DirectoryBytes {
        /// Entries announced.
        entries: u64,
        /// Bytes left.
        bytes: u64,
    },

    /// The archive is larger than this program is willing to read.
    #[error("{subject} has {value} {what}, the limit is {limit}")]
    Limit {
        /// The archive or an entry.
        subject: String,
        /// What is limited; see [`Limits`](super::Limits).
        what: &'static str,
        /// How much there is.
        value: u64,
        /// How much is allowed.
        limit: u64,
    },

    /// A name that is no plain relative path.
    #[error("the entry name {name:?} {problem}")]
    Name {
        /// The name; bytes that are no UTF-8 replaced.
        name: String,
        /// What is wrong with it.
        problem: NameProblem,
    },

    /// A Unicode path field gives an entry a second name.
    #[error("the entry {name:?} has another name {other:?} in its Unicode path field")]
    SecondName {
        /// Its name in the header.
        name: String,
        /// Its name in the extra field; bytes that are no UTF-8 replaced.
        other: String,
    },

    /// Two entries have one path.
    #[error("two entries for one path: {first:?} and {second:?}")]
    Duplicate {
        /// The name of one.
        first: String,
        /// The name of the other; it may differ by a trailing slash.
        second: String,
    },

    /// An entry that is no directory has entries below it.
    #[error("the entry {file:?} is not a directory, but {below:?} is below it")]
    FileAsFolder {
        /// The entry.
        file: String,
        /// An entry below it.
        below: String,
    },

    /// The local header names another file.
    #[error(
        "the entry {central:?} of the central directory is named {local:?} in its local header at byte {offset}"
    )]
    LocalName {
        /// In the central directory.
        central: String,
        /// In the local header; bytes that are no UTF-8 replaced.
        local: String,
        /// Where the local header is.
        offset: u64,
    },

    /// The two headers of an entry disagree.
    #[error(
        "{field} of {name:?} is {local:#x} in its local header and {central:#x} in the central directory"
    )]
    HeadersDisagree {
        /// The entry.
        name: String,
        /// Which field.
        field: &'static str,
        /// In the local header.
        local: u64,
        /// In the central directory.
        central: u64,
    },

    /// The data descriptor disagrees with the central directory, or has a form that no reader expects.
    #[error("{field} of {name:?} is {descriptor:#x} in its data descriptor, expected {expected:#x}")]
    Descriptor {
        /// The entry.
        name: String,
        /// Which field.
        field: &'static str,
        /// In the data descriptor.
        descriptor: u64,
        /// By the central directory.
        expected: u64,
    },

    /// Stored data whose length only its own descriptor tells.
    #[error(
        "the entry {name:?} is {size} stored bytes followed by a data descriptor, and its local header does not say how \
         many: where it ends would be a guess"
    )]
    UnknownLength {
        /// The entry.
        name: String,
        /// Bytes of content, by the central directory.
        size: u64,
    },

    /// Bytes between two entries belong to none, or the directory is not right behind the last.
    #[error(
        "{} bytes from byte {end} on belong to nothing: {name:?} ends there, and what follows begins at byte {next}",
        .next.saturating_sub(*.end)
    )]
    Gap {
        /// The entry before the gap; empty for the start of the file.
        name: String,
        /// Where it ends.
        end: u64,
        /// Where the next entry or the central directory begins.
        next: u64,
    },

    /// Two entries, or an entry and the central directory, share bytes.
    #[error("{name:?} ends at byte {end}, but what follows begins already at byte {next}")]
    Overlap {
        /// The first of the two.
        name: String,
        /// Where it ends.
        end: u64,
        /// Where the next entry or the central directory begins.
        next: u64,
    },

    /// Flags that ask for encryption, patches or something else that wheels have no use for.
    #[error("the entry {name:?} has the flags {flags:#06x}; of these, {refused:#06x} are not supported")]
    Flags {
        /// The entry.
        name: String,
        /// All its flags.
        flags: u16,
        /// Those that are refused.
        refused: u16,
    },

    /// A compression method that wheels don't use.
    #[error(
        "the entry {name:?} is compressed by method {method}; only 0 (stored) and 8 (deflated) are supported"
    )]
    Method {
        /// The entry.
        name: String,
        /// Its method.
        method: u16,
    },

    /// An entry's data is on another disk of the archive.
    #[error("the entry {name:?} begins on disk {disk} of a split archive")]
    Disk {
        /// The entry.
        name: String,
        /// The disk's number.
        disk: u16,
    },

    /// The extra fields of an entry can't be read, or more than one way.
    #[error("extra field {id:#06x} of {name:?} in its {header}: {problem}")]
    Extra {
        /// The entry.
        name: String,
        /// In which of its headers.
        header: Header,
        /// Which field.
        id: u16,
        /// What is wrong with it.
        problem: ExtraProblem,
    },

    /// The sizes of an entry contradict each other.
    #[error("{name:?} is said to be {size} bytes {} {compressed_size} bytes, which can't be", if *.stored { "stored in" } else { "deflated to" })]
    Sizes {
        /// The entry.
        name: String,
        /// Whether it is stored.
        stored: bool,
        /// Bytes of content.
        size: u64,
        /// Bytes in the archive.
        compressed_size: u64,
    },

    /// A device, a socket or a pipe; or a directory whose name does not end in a slash, or the reverse.
    #[error(
        "the entry {name:?} has the external attributes {attributes:#010x}: neither a file nor a symlink, nor a \
         directory whose name ends in a slash"
    )]
    FileType {
        /// The entry.
        name: String,
        /// Its external attributes: the mode of a Unix in the upper half, that of DOS in the lowest byte.
        attributes: u32,
    },

    /// A directory with content.
    #[error("the directory {name:?} has {size} bytes of content, {compressed_size} in the archive")]
    DirectoryContent {
        /// The entry.
        name: String,
        /// Bytes of content.
        size: u64,
        /// Bytes in the archive.
        compressed_size: u64,
    },

    /// An entry's DEFLATE stream is damaged.
    #[error("the DEFLATE stream of {name:?} is damaged after {produced} bytes of content")]
    Inflate {
        /// The entry.
        name: String,
        /// Bytes that could be inflated.
        produced: u64,
    },

    /// An entry's DEFLATE stream ends before the bytes that the entry has in the archive.
    #[error(
        "the DEFLATE stream of {name:?} ends after {consumed} bytes, the entry has {compressed_size} in the archive"
    )]
    StreamEnd {
        /// The entry.
        name: String,
        /// Bytes of the stream.
        consumed: u64,
        /// Bytes of the entry in the archive.
        compressed_size: u64,
    },

    /// An entry has more or less content than declared.
    #[error("{name:?} has {} bytes of content, {size} were declared", if .found > .size { format!("more than {size}") } else { found.to_string() })]
    ContentSize {
        /// The entry.
        name: String,
        /// Bytes of content; where it is more than declared, bytes until that was noticed.
        found: u64,
        /// Bytes declared.
        size: u64,
    },

    /// An entry's content is not what it was when the archive was made.
    #[error("the content of {name:?} has the CRC-32 {found:08x}, {expected:08x} was declared")]
    ContentCrc {
        /// The entry.
        name: String,
        /// The CRC-32 of the content.
        found: u32,
        /// The CRC-32 declared.
        expected: u32,
    },
}

/// Which of an entry's two headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The one before its data.
    Local,
    /// The one in the central directory.
    Central,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local header",
            Self::Central => "central header",
        })
    }
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// No name at all.
    #[error("is empty")]
    Empty,
    /// The flag says UTF-8, the bytes don't.
    #[error("is not UTF-8")]
    NotUtf8,
    /// Without the flag, the encoding is a guess.
    #[error("is not ASCII, and not marked as UTF-8")]
    NotAscii,
    /// NUL, a line break, an escape sequence and so on.
    #[error("contains a control character")]
    ControlCharacter,
    /// Some readers take it for a separator.
    #[error("contains a backslash")]
    Backslash,
    /// It begins with `/`.
    #[error("is absolute")]
    Absolute,
    /// It begins with a letter and a colon.
    #[error("begins with a drive letter")]
    DriveLetter,
    /// Two slashes in a row.
    #[error("has an empty component")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("has a relative component")]
    RelativeComponent,
    /// Over 255 bytes, which no file system of Linux takes.
    #[error("has a component of over 255 bytes")]
    LongComponent,
}

/// What is wrong with an extra field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtraProblem {
    /// Fewer bytes are left than a field's header takes.
    #[error("{available} bytes are too few for a field")]
    ShortHeader {
        /// Bytes left.
        available: usize,
    },
    /// It reaches past the end of the extra fields.
    #[error("it should have {declared} bytes, {available} are left")]
    PastEnd {
        /// Bytes that it declares.
        declared: usize,
        /// Bytes left.
        available: usize,
    },
    /// It occurs twice, and readers differ in which counts.
    #[error("it occurs twice")]
    Repeated,
    /// It has not exactly the values that the header refers to.
    #[error("it has {found} bytes, the header refers to {expected}")]
    Length {
        /// Its bytes.
        found: usize,
        /// Bytes that the header's fields call for.
        expected: usize,
    },
}
