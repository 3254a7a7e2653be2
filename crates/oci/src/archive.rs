//! The archive: a layout as one tar file, as `skopeo copy oci-archive:` reads and writes it.
//!
//! Written in one pass, straight from the store: `oci-layout` and `index.json` first, so that a reader of a stream
//! knows what comes, then every blob once, by digest. The same images give the same bytes.

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use ::tar::{EntryType, Header};
use fs_err as fs;
use oci_spec::image as spec;

use crate::medium::blob_name;
use crate::reference::index_entries;
use crate::tar::padding;
use crate::tarball::Tarball;
use crate::{Digest, Error, MediaType, Medium, Ref, draft, json, layout, reachable};

/// The largest size that the eleven octal digits of a header can say, in bytes.
const MAX_OCTAL: u64 = 0o777_7777_7777;

/// Opens an archive for reading; its content is not read yet.
///
/// One that is compressed as a whole, with gzip or zstd, is unpacked into a file without a name in the folder that it
/// lies in; up to 64 GiB.
///
/// # Errors
/// [`Error::Tar`] when it is no sound tar, [`Error::NotAnImage`] when it has no `oci-layout` file; [`Error::TooLarge`],
/// [`Error::Compression`] when it cannot be unpacked.
pub fn open(file: &Path) -> Result<Medium, Error> {
    open_in(file, folder_of(file))
}

/// As [`open`], unpacking into `scratch` if need be, a folder.
///
/// # Errors
/// As [`open`].
pub fn open_in(file: &Path, scratch: &Path) -> Result<Medium, Error> {
    let medium = Medium::archive(file, Tarball::open(file, scratch)?);
    layout::check_header(&medium)?;
    Ok(medium)
}

/// The folder that a file lies in.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes `refs` and every blob that they lead to as one tar stream. `path_of` tells where a blob lies in the store.
///
/// # Errors
/// As [`reachable`]; [`Error::SizeMismatch`] when a blob of the store is not as long as its descriptor says;
/// [`Error::Duplicate`] when two refs have one name. The stream is of no use then.
pub fn write(out: &mut dyn Write, refs: &[Ref], path_of: &dyn Fn(&Digest) -> PathBuf) -> Result<(), Error> {
    let mut index = spec::ImageIndex::default();
    index.set_media_type(Some(MediaType::ImageIndex));
    index.set_manifests(index_entries(refs)?);
    let index = json::canonical(&index)?;
    let blobs = reachable(refs, path_of)?;

    for (name, bytes) in [("oci-layout", layout::HEADER), ("index.json", &index)] {
        header(out, name, EntryType::Regular, bytes.len() as u64)?;
        out.write_all(bytes)?;
        pad(out, bytes.len() as u64)?;
    }
    for name in ["blobs/", "blobs/sha256/"] {
        header(out, name, EntryType::Directory, 0)?;
    }
    let mut buffer = vec![0; 1 << 20];
    for (digest, size) in blobs {
        let path = path_of(&digest);
        let mut file = fs::File::open(&path)?;
        let found = file.metadata()?.len();
        let mismatch =
            |found| Error::SizeMismatch { what: path.display().to_string(), expected: size, found };
        if found != size {
            return Err(mismatch(found));
        }
        header(out, &blob_name(&digest), EntryType::Regular, size)?;
        let mut written = 0;
        loop {
            let count = file.read(&mut buffer)?;
            written += count as u64;
            if count == 0 || written > size {
                break;
            }
            out.write_all(buffer.get(..count).unwrap_or_default())?;
        }
        // Somebody wrote to it in the meantime.
        if written != size {
            return Err(mismatch(written));
        }
        pad(out, size)?;
    }
    out.write_all(&[0; 1024])?;
    out.flush()?;
    Ok(())
}

/// As [`write()`], into a file that is there whole or not at all: it is written under another name beside `file`.
///
/// # Errors
/// As [`write()`]; the old file stays then, if there was one.
pub fn write_file(file: &Path, refs: &[Ref], path_of: &dyn Fn(&Digest) -> PathBuf) -> Result<(), Error> {
    draft::write(file, |out| write(out, refs, path_of))
}

/// One header, with a pax record before it where the size does not fit.
pub(crate) fn header(out: &mut dyn Write, name: &str, kind: EntryType, size: u64) -> Result<(), Error> {
    if size > MAX_OCTAL {
        let record = size_record(size);
        header(out, "pax", EntryType::XHeader, record.len() as u64)?;
        out.write_all(record.as_bytes())?;
        pad(out, record.len() as u64)?;
    }
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(if size > MAX_OCTAL { 0 } else { size });
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    Ok(())
}

/// `LENGTH size=SIZE\n`; the length has two digits, as every size that needs a record has 10 to 20.
fn size_record(size: u64) -> String {
    let rest = format!(" size={size}\n");
    format!("{}{rest}", rest.len() + 2)
}

pub(crate) fn pad(out: &mut dyn Write, size: u64) -> Result<(), Error> {
    let zeros = [0; 512];
    out.write_all(zeros.get(..usize::try_from(padding(size)).unwrap_or_default()).unwrap_or_default())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::tar::{Input, scan};

    /// Headers from memory, content that is not there at all.
    struct Sparse<'a>(&'a [u8]);

    impl io::Read for Sparse<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Input for Sparse<'_> {
        fn skip(&mut self, count: u64) -> io::Result<()> {
            if count < 1 << 20 {
                io::copy(&mut self.0.by_ref().take(count), &mut io::sink())?;
            }
            Ok(())
        }
    }

    fn check(size: u64) {
        let mut bytes = Vec::new();
        header(&mut bytes, "a", EntryType::Regular, size).unwrap();
        bytes.extend([0; 1024]);
        let mut sizes = Vec::new();
        scan(Sparse(&bytes), |entry| sizes.push(entry.size)).unwrap();
        assert_eq!(sizes, [size]);
        let mut archive = ::tar::Archive::new(bytes.as_slice());
        assert_eq!(archive.entries().unwrap().next().unwrap().unwrap().size(), size, "by another reader");
    }

    #[test]
    fn sizes_beyond_eleven_octal_digits() {
        for size in [MAX_OCTAL, MAX_OCTAL + 1, 10_000_000_000, 1 << 50] {
            check(size);
        }
    }
}
