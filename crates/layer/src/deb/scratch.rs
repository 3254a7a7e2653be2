//! A package's two tars, decompressed once into a file without a name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::Problem;
use super::ar::{self, Compression, Member};
use crate::Source;

/// The decompressed tars of a package, one behind the other.
pub(super) struct Scratch {
    pub(super) source: Arc<Source>,
    /// Where `control.tar` ends and `data.tar` begins.
    pub(super) data: u64,
}

/// Maintainer scripts, templates, md5sums: Debian's largest (a kernel's) has a few megabytes.
const MAX_CONTROL: u64 = 64 << 20;
/// Debian's largest data.tar has about 6 GB.
const MAX_DATA: u64 = 32 << 30;
/// No limit to the ratio below this, where a bomb would harm nobody.
const FREE: u64 = 64 << 20;
/// A tar of zeros reaches 7,000 in xz; real packages stay below 50.
const MAX_RATIO: u64 = 1_000;
/// `xz -9` needs 65 MiB to decompress.
const MAX_XZ_MEMORY: u64 = 256 << 20;
/// 128 MiB, which is the format's recommendation and dpkg's default.
const MAX_ZSTD_WINDOW: u32 = 27;

/// Decompresses both tars of `source` into an unlinked file in `folder`.
pub(super) fn inflate(source: &Source, folder: &Path) -> Result<Scratch, Problem> {
    let (control, data) = ar::members(source)?;
    let error = |source| Problem::Scratch { folder: folder.display().to_string(), source };
    let mut file = tempfile::tempfile_in(folder).map_err(error)?;
    let control_len = copy(source, control, "control.tar", MAX_CONTROL, &mut file, folder)?;
    copy(source, data, "data.tar", MAX_DATA, &mut file, folder)?;
    let source = Source::from_file(file, source.path()).map_err(error)?;
    Ok(Scratch { source: Arc::new(source), data: control_len })
}

fn copy(
    source: &Source,
    member: Member,
    name: &'static str,
    limit: u64,
    file: &mut File,
    folder: &Path,
) -> Result<u64, Problem> {
    let limit = limit.min(FREE.max(member.len.saturating_mul(MAX_RATIO)));
    let decode = |source| Problem::Decompress { name, source };
    let compressed = io::BufReader::with_capacity(256 << 10, source.range(member.offset, member.len));
    let mut reader: Box<dyn Read> = match member.compression {
        Compression::None => Box::new(compressed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(compressed)),
        Compression::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(MAX_XZ_MEMORY, liblzma::stream::CONCATENATED);
            let stream = stream.map_err(|error| decode(error.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(compressed, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(decode)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW).map_err(decode)?;
            Box::new(decoder)
        }
    };
    let mut buffer = vec![0; 256 << 10];
    let mut len = 0;
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(len),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(decode)?,
        };
        len += read as u64;
        if len > limit {
            return Err(Problem::TooLarge { name, limit });
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        let error = |source| Problem::Scratch { folder: folder.display().to_string(), source };
        file.write_all(bytes).map_err(error)?;
    }
}
