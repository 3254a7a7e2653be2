use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::tar::{self, Input};
use crate::{Blob, Descriptor, Digest, Error};

/// Where the files of images lie: a layout folder or an archive of one.
///
/// Both hold the same three kinds of file, so everything that reads images reads them through this one value, made by
/// [`layout::open`](crate::layout::open) or [`archive::open`](crate::archive::open).
#[derive(Debug)]
pub struct Medium {
    place: PathBuf,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Folder,
    /// The archive's files, with where their content lies.
    Archive(BTreeMap<String, Member>),
}

#[derive(Clone, Copy, Debug)]
struct Member {
    offset: u64,
    size: u64,
}

/// Bytes of a file in a medium, in order.
pub(crate) type Content = Box<dyn Read + Send>;

impl Medium {
    pub(crate) fn folder(place: &Path) -> Self {
        Self { place: place.to_owned(), form: Form::Folder }
    }

    /// Lists an archive's files without reading their content.
    pub(crate) fn archive(place: &Path) -> Result<Self, Error> {
        let file = fs::File::open(place)?;
        let length = file.metadata()?.len();
        let mut members = BTreeMap::new();
        tar::scan(Seekable { file: BufReader::new(file), position: 0, length }, |entry| {
            // A name that is no UTF-8 is none of an archive's; it cannot be asked for, and is reported by nobody.
            if let (b'0' | b'7', Ok(path)) = (entry.kind, String::from_utf8(entry.path)) {
                members.insert(path, Member { offset: entry.offset, size: entry.size });
            }
        })?;
        Ok(Self { place: place.to_owned(), form: Form::Archive(members) })
    }

    /// The folder or the file.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// What it should be, for messages.
    pub(crate) const fn noun(&self) -> &'static str {
        match self.form {
            Form::Folder => "an image layout",
            Form::Archive(_) => "an image archive",
        }
    }

    /// Opens a file and tells its size in bytes; nothing when there is no such file.
    pub(crate) fn open(&self, name: &str) -> Result<Option<(Content, u64)>, Error> {
        match &self.form {
            Form::Folder => {
                let path = self.place.join(name);
                // Looked at before it is opened, because to open a pipe waits for its writer.
                let metadata = match fs::metadata(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    metadata => metadata?,
                };
                if !metadata.is_file() {
                    return Err(Error::NotAnImage {
                        place: path,
                        expected: "a file of an image layout",
                        detail: "it is no regular file".to_owned(),
                    });
                }
                Ok(Some((Box::new(fs::File::open(path)?), metadata.len())))
            }
            Form::Archive(members) => {
                let Some(Member { offset, size }) = members.get(name).copied() else { return Ok(None) };
                let mut file = fs::File::open(&self.place)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Some((Box::new(file.take(size)), size)))
            }
        }
    }

    /// Reads a file whole, if it is there and honest in size.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some((content, size)) = self.open(name)? else { return Ok(None) };
        if size > limit {
            let what = format!("{name} in {}", self.place.display());
            return Err(Error::TooLarge { what, size, limit });
        }
        let mut bytes = Vec::new();
        content.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Reads and verifies what a descriptor names.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `limit` bytes, [`Error::SizeMismatch`] and [`Error::DigestMismatch`] when it is not
    /// what was named, [`Error::NotAnImage`] when it is not there.
    pub fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Blob, Error> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.read(&name, limit)?.ok_or_else(|| self.missing(&name))?;
        Blob::verified(descriptor.clone(), bytes)
    }

    /// Opens a blob of any size, to be copied; whoever takes the bytes verifies them.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] when it is not there, [`Error::Io`] when it cannot be opened.
    pub fn blob_reader(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, Error> {
        let name = blob_name(digest);
        let (content, _) = self.open(&name)?.ok_or_else(|| self.missing(&name))?;
        Ok(content)
    }

    pub(crate) fn missing(&self, name: &str) -> Error {
        Error::NotAnImage {
            place: self.place.clone(),
            expected: self.noun(),
            detail: format!("{name} is missing"),
        }
    }

    /// The names of all files, sorted.
    pub(crate) fn files(&self) -> Result<Vec<String>, Error> {
        match &self.form {
            Form::Archive(members) => Ok(members.keys().cloned().collect()),
            Form::Folder => {
                let mut names = Vec::new();
                let mut folders = vec![String::new()];
                while let Some(folder) = folders.pop() {
                    for entry in fs::read_dir(self.place.join(&folder))? {
                        let entry = entry?;
                        let name = format!("{folder}{}", entry.file_name().to_string_lossy());
                        if entry.file_type()?.is_dir() { folders.push(name + "/") } else { names.push(name) }
                    }
                }
                names.sort();
                Ok(names)
            }
        }
    }
}

/// Where a layout and an archive have a blob.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A file that is passed over by seeking, which must not lead beyond its end.
struct Seekable {
    file: BufReader<fs::File>,
    position: u64,
    length: u64,
}

impl Read for Seekable {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Input for Seekable {
    fn skip(&mut self, count: u64) -> std::io::Result<()> {
        let distance = i64::try_from(count).map_err(|_| std::io::ErrorKind::UnexpectedEof)?;
        if count > self.length.saturating_sub(self.position) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.file.seek_relative(distance)?;
        self.position += count;
        Ok(())
    }
}
