//! What images.lock may say: names and paths of it become names of files, so nothing is taken on trust.

use std::path::Component;

use imgforge_oci::{Kind, MediaType, kind};
use imgforge_resolver::Location;

use super::{File, ImagesLockError};

impl File {
    pub(super) fn check(&self) -> Result<(), ImagesLockError> {
        for table in &self.base {
            let at = Place { table: "base", name: &table.name, entry: &table.image };
            at.expect("image", &table.image, "text without control characters", is_text)?;
            let media_type = &table.manifest.media_type;
            let is_manifest = |text: &str| kind(&MediaType::from(text)) == Kind::Manifest;
            at.expect("media-type", media_type, "a manifest's media type", is_manifest)?;
            for interpreter in table.facts.iter().flat_map(|facts| &facts.interpreters) {
                let is_path = |path: &str| is_text(path) && path.starts_with('/');
                at.expect("path", &interpreter.path, "an absolute path", is_path)?;
                at.word("version", &interpreter.version)?;
            }
        }
        for table in &self.debian {
            for package in &table.packages {
                let at = Place { table: "debian", name: &table.base, entry: &package.name };
                at.word("name", &package.name)?;
                at.word("version", &package.version)?;
                at.word("architecture", &package.architecture)?;
                at.sha256("sha256", &package.sha256)?;
                at.expect("path", &package.path, "a path below the mirror, without `..`", is_below)?;
            }
        }
        for table in &self.environment {
            for artifact in &table.artifacts {
                let at = Place { table: "environment", name: &table.environment, entry: &artifact.name };
                at.word("name", &artifact.name)?;
                at.word("version", &artifact.version)?;
                at.expect("file", &artifact.file, "a file's name without folders", is_word)?;
                at.sha256("sha256", &artifact.sha256)?;
                at.location(&artifact.location)?;
            }
            for package in &table.packages {
                let at = Place { table: "environment", name: &table.environment, entry: &package.name };
                for (key, value) in
                    [("name", &package.name), ("version", &package.version), ("subdir", &package.subdir)]
                {
                    at.word(key, value)?;
                }
                at.expect("file", &package.file, "a file's name without folders", is_word)?;
                at.sha256("sha256", &package.sha256)?;
                at.location(&package.location)?;
            }
            if let Some(python) = &table.python {
                let at = Place { table: "environment", name: &table.environment, entry: "python" };
                at.word("version", &python.version)?;
                let expected = "a path below the prefix, without `..`";
                at.expect("site-packages", &python.site_packages, expected, is_below)?;
            }
        }
        for artifact in &self.artifact {
            let at = Place { table: "artifact", name: &artifact.name, entry: &artifact.title };
            at.expect("title", &artifact.title, "text without control characters", is_text)?;
            at.sha256("key", &artifact.key)?;
            at.sha256("sha256", &artifact.sha256)?;
            at.expect("file", &artifact.file, "a file's name without folders", is_word)?;
        }
        for table in &self.image {
            for layer in &table.layers {
                let at = Place { table: "image", name: &table.name, entry: &layer.title };
                at.expect("title", &layer.title, "text without control characters", is_text)?;
                at.sha256("key", &layer.key)?;
                if let Some(media_type) = &layer.media_type {
                    let is_layer = |text: &str| matches!(kind(&MediaType::from(text)), Kind::Layer(_));
                    at.expect("media-type", media_type, "a layer's media type", is_layer)?;
                }
            }
        }
        Ok(())
    }
}

/// Where a value stands.
struct Place<'a> {
    table: &'static str,
    name: &'a str,
    entry: &'a str,
}

impl Place<'_> {
    fn expect(
        &self,
        key: &'static str,
        value: &str,
        expected: &'static str,
        is_good: impl Fn(&str) -> bool,
    ) -> Result<(), ImagesLockError> {
        if is_good(value) {
            return Ok(());
        }
        // What is refused may be there to be printed.
        let plain = |text: &str| text.escape_debug().to_string();
        Err(ImagesLockError::Value {
            table: self.table,
            name: plain(self.name),
            entry: plain(self.entry),
            key,
            value: value.to_owned(),
            expected,
        })
    }

    fn location(&self, location: &Location) -> Result<(), ImagesLockError> {
        match location {
            Location::Url(url) => self.expect("url", url, "an http or https URL", is_url),
            Location::Path(path) => {
                let expected = "a path relative to images.toml";
                self.expect("path", &path.to_string_lossy(), expected, is_relative)
            }
        }
    }

    fn word(&self, key: &'static str, value: &str) -> Result<(), ImagesLockError> {
        self.expect(key, value, "one word without `/`", is_word)
    }

    fn sha256(&self, key: &'static str, value: &str) -> Result<(), ImagesLockError> {
        self.expect(key, value, "64 lower-case hexadecimal digits", is_sha256)
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// What can be one component of a path and one word of a control file.
fn is_word(text: &str) -> bool {
    is_text(text)
        && !text.starts_with('.')
        && !text.contains(|char: char| char == '/' || char.is_whitespace())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_below(path: &str) -> bool {
    is_text(path) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_url(url: &str) -> bool {
    is_text(url) && (url.starts_with("https://") || url.starts_with("http://"))
}

fn is_relative(path: &str) -> bool {
    let root = |component: Component<'_>| matches!(component, Component::RootDir | Component::Prefix(_));
    is_text(path) && !std::path::Path::new(path).components().any(root)
}
