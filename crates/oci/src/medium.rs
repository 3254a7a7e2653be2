use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;

use crate::tarball::{Extent, Tarball};
use crate::{Blob, Descriptor, Digest, Error};

/// Where the files of images lie: a layout folder, an archive of one, or Docker's own archive.
///
/// All have the same three kinds of file, so everything that reads images reads them through this one value, made by
/// [`layout::open`](crate::layout::open), [`archive::open`](crate::archive::open) or
/// [`docker_archive::open`](crate::docker_archive::open). What Docker's archive does not have (an index, manifests) is
/// made when it is opened.
#[derive(Debug)]
pub struct Medium {
    place: PathBuf,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Folder,
    Archive(Tarball),
    /// The archive, and what stands for what in it.
    Docker(Tarball, BTreeMap<String, Source>),
}

/// Where the content of a file comes from that another format has elsewhere, or has not.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A part of the archive.
    Extent(Extent),
    /// Bytes that were made.
    Made(Arc<[u8]>),
}

/// Bytes of a file in a medium, in order.
pub(crate) type Content = Box<dyn Read + Send>;

impl Medium {
    pub(crate) fn folder(place: &Path) -> Self {
        Self { place: place.to_owned(), form: Form::Folder }
    }

    pub(crate) fn archive(place: &Path, tarball: Tarball) -> Self {
        Self { place: place.to_owned(), form: Form::Archive(tarball) }
    }

    pub(crate) fn docker(place: &Path, tarball: Tarball, files: BTreeMap<String, Source>) -> Self {
        Self { place: place.to_owned(), form: Form::Docker(tarball, files) }
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
            Form::Docker(..) => "a docker archive",
        }
    }

    /// Whether names are Docker's, which have a short form.
    pub(crate) const fn has_docker_names(&self) -> bool {
        matches!(self.form, Form::Docker(..))
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
            Form::Archive(tarball) => {
                let extent = tarball.find(name).map_err(|reason| self.broken(name, &reason))?;
                Ok(extent.map(|extent| (Box::new(tarball.content(extent)) as Content, extent.size)))
            }
            Form::Docker(tarball, files) => Ok(files.get(name).map(|source| match source {
                Source::Extent(extent) => (Box::new(tarball.content(*extent)) as Content, extent.size),
                Source::Made(bytes) => {
                    (Box::new(Cursor::new(Arc::clone(bytes))) as Content, bytes.len() as u64)
                }
            })),
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
        self.wrong(format!("{name} is missing"))
    }

    fn broken(&self, name: &str, reason: &str) -> Error {
        self.wrong(format!("{name}: {reason}"))
    }

    fn wrong(&self, detail: String) -> Error {
        Error::NotAnImage { place: self.place.clone(), expected: self.noun(), detail }
    }

    /// The names of all files, sorted.
    pub(crate) fn files(&self) -> Result<Vec<String>, Error> {
        match &self.form {
            Form::Archive(tarball) => Ok(tarball.files().map(str::to_owned).collect()),
            Form::Docker(_, files) => Ok(files.keys().cloned().collect()),
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
