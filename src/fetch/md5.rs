//! A file that a lock has only the MD5 of: fetched once, so that its SHA-256 can be pinned.
//!
//! MD5 keeps no attacker out, so this is for whoever has said that they trust the place for this once. There is nothing to
//! resume by: a transfer that breaks off starts over.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use data_encoding::HEXLOWER;
use imgforge_http::{self as http, Halt, Trouble, persist, redacted};
use imgforge_oci::Digest;
use imgforge_store::{HashingWriter, Store, StoreError};
use md5::{Digest as _, Md5};
use reqwest::Url;
use reqwest::header::HeaderMap;

use super::{FetchError, Fetcher, Reason, Source};

impl Fetcher {
    /// Fetches a file into the store and returns the SHA-256 of what came, if it has this MD5 (32 lower-case hexadecimal
    /// digits). Folders with vendored artifacts are looked into first.
    ///
    /// # Errors
    /// [`FetchError::Get`], with the reason of the last source; [`Reason::Md5`] when the file is another one.
    pub fn identify(
        &self,
        store: &Store,
        file: &str,
        source: &Source,
        md5: &str,
    ) -> Result<Digest, FetchError> {
        for folder in self.settings.vendor.iter().filter(|_| !file.contains('/')) {
            let path = folder.join(file);
            if path.exists()
                && let Ok(digest) = self.identify_path(store, &path, md5)
            {
                return Ok(digest);
            }
        }
        match source {
            Source::Path(path) => self.identify_path(store, path, md5),
            Source::Url(text) => {
                let failed = |reason: Reason| FetchError::Get { url: redacted(text), reason };
                let broken = |reason: String| failed(http::Reason::Url(reason).into());
                let url = Url::parse(text).map_err(|error| broken(error.to_string()))?;
                match url.scheme() {
                    "file" => {
                        let path = url.to_file_path().map_err(|()| broken("not a path".to_owned()))?;
                        self.identify_path(store, &path, md5)
                    }
                    _ if self.settings.offline => Err(failed(Reason::Offline)),
                    _ => self.identify_url(store, &url, md5),
                }
            }
        }
    }

    fn identify_path(&self, store: &Store, path: &Path, md5: &str) -> Result<Digest, FetchError> {
        let failed = |error: io::Error| FetchError::Get {
            url: path.display().to_string(),
            reason: Reason::File(error.to_string()),
        };
        let mut file = File::open(path).map_err(failed)?;
        let mut sink = Sink::new(store)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => sink.write(buffer.get(..count).unwrap_or(&buffer)).map_err(failed)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        sink.finish(md5)?.map_err(|reason| FetchError::Get { url: path.display().to_string(), reason })
    }

    fn identify_url(&self, store: &Store, url: &Url, md5: &str) -> Result<Digest, FetchError> {
        let (patience, forever) = (self.settings.patience, AtomicBool::new(false));
        let received = persist(patience, &forever, &|_, _| {}, || {
            let mut response = self.connections.open(url, &HeaderMap::new())?.accepted()?;
            let length = response.content_length();
            let mut sink = Sink::new(store).map_err(Halt::Store)?;
            let mut count = 0;
            while let Some(bytes) = response.chunk()? {
                count += bytes.len() as u64;
                let full = |error: io::Error| Trouble::Final(http::Reason::Content(error.to_string()));
                sink.write(&bytes).map_err(full)?;
            }
            match length {
                Some(length) if count < length => {
                    let reason = format!("the connection ended after {count} of {length} bytes");
                    Err(Trouble::passing(http::Reason::Connection(reason)))
                }
                _ => Ok(sink),
            }
        });
        let failed = |reason: Reason| FetchError::Get { url: redacted(url.as_str()), reason };
        let sink = received.map_err(|trouble| match trouble {
            Trouble::Passing { reason, .. } | Trouble::Final(reason) => failed(reason.into()),
            Trouble::Halt(Halt::Store(error)) => error.into(),
            Trouble::Halt(Halt::Stopped) => failed(http::Reason::Connection("stopped".to_owned()).into()),
        })?;
        sink.finish(md5)?.map_err(failed)
    }
}

/// Into the store, hashed twice.
struct Sink {
    writer: HashingWriter,
    md5: Md5,
}

impl Sink {
    fn new(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { writer: store.hashing_writer()?, md5: Md5::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.writer.write_all(bytes)
    }

    /// The file is in the store only if it is the one that was meant.
    fn finish(self, expected: &str) -> Result<Result<Digest, Reason>, StoreError> {
        let received = HEXLOWER.encode(&self.md5.finalize());
        match received == expected {
            true => self.writer.commit().map(Ok),
            false => Ok(Err(Reason::Md5 { expected: expected.to_owned(), received })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::FetchSettings;

    #[track_caller]
    fn check(vendored: Option<&str>, at_source: Option<&str>, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let vendor = folder.path().join("vendor");
        std::fs::create_dir(&vendor).unwrap();
        if let Some(text) = vendored {
            std::fs::write(vendor.join("a-1-0.conda"), text).unwrap();
        }
        let source = folder.path().join("a-1-0.conda");
        if let Some(text) = at_source {
            std::fs::write(&source, text).unwrap();
        }
        let store = Store::open(folder.path().join("store")).unwrap();
        let settings = FetchSettings { vendor: vec![vendor], ..FetchSettings::default() };
        let fetcher = Fetcher::new(settings).unwrap();
        // MD5 of `abc` (RFC 1321, appendix A.5).
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        let said = match fetcher.identify(&store, "a-1-0.conda", &Source::Path(source), md5) {
            Ok(digest) => {
                assert!(store.contains(&digest).unwrap());
                assert_eq!(digest, Digest::of(b"abc"));
                String::new()
            }
            Err(FetchError::Get { reason, .. }) => reason.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn by_md5() {
        check(None, Some("abc"), "");
        check(Some("abc"), None, "");
        check(Some("other"), Some("abc"), "");
        let other =
            "the MD5 is 795f3202b17cb6bc3d4b771d8c6c9eaf, the lock says 900150983cd24fb0d6963f7d28e17f72";
        check(None, Some("other"), other);
        check(Some("other"), Some("other"), other);
    }
}
