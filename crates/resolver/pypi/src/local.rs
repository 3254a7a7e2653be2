//! Files of this machine, of which no index says the hash.
//!
//! A folder of wheels (`find-links`) is an index without hashes, and uv's locks of it have none either. What is written here has
//! them, so that a file that was replaced since is noticed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use imgforge_resolver_core::Artifact;
use sha2::{Digest as _, Sha256};
use toml_edit::{DocumentMut, InlineTable, Item, Table, Value};
use uv_distribution_types::{BuiltDist, Dist, File, Name as _, Resolution, ResolvedDist, SourceDist};

use crate::artifact::{Gathered, registry_url, sha256};
use crate::error::{Error, plain};

/// What to do about a file on a server whose index publishes no hash.
const MEND: &str =
    "use an index that publishes SHA-256 hashes, or fetch the file and name its folder in `find_links`";

/// What was hashed here, by file name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hashes(BTreeMap<String, Hashed>);

#[derive(Clone, Debug)]
struct Hashed {
    /// `NAME==VERSION`.
    pin: String,
    /// 64 lower-case hexadecimal digits.
    sha256: String,
}

impl Hashes {
    /// The artifacts of a resolution. Files of this machine without a hash are read for it.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] for a file that can't be read, [`Error::Unusable`] for what has no hash or no place.
    pub(crate) fn artifacts(
        &mut self,
        resolution: Resolution,
        file: &Path,
        folder: &Path,
    ) -> Result<Vec<Artifact>, Error> {
        let dists = || {
            resolution.distributions().filter_map(|dist| match dist {
                ResolvedDist::Installable { dist, .. } => Some(dist.as_ref()),
                ResolvedDist::Installed { .. } => None,
            })
        };
        let sources = dists().filter(|dist| matches!(dist, Dist::Source(_))).map(|dist| dist.name().clone());
        let mut gathered = Gathered::new(MEND).building(sources.collect());
        for dist in dists() {
            match dist {
                Dist::Built(BuiltDist::Registry(dist)) => {
                    let wheel = dist.best_wheel();
                    let pin = format!("{}=={}", wheel.filename.name, wheel.filename.version);
                    if let Some(hash) = self.hash(&wheel.file, pin, file)? {
                        let size = wheel.file.size;
                        gathered.file(&wheel.filename, None, Some(hash), registry_url(wheel), size);
                    }
                }
                Dist::Source(SourceDist::Registry(dist)) => {
                    let pin = format!("{}=={}", dist.name, dist.version);
                    if let Some(hash) = self.hash(&dist.file, pin, file)? {
                        let url = dist.file.url.to_url().map(|url| url.as_str().to_owned());
                        let url = url.map_err(|error| error.to_string());
                        let version = Some(dist.version.to_string());
                        gathered.sdist_file(dist.name.as_ref(), version, Some(hash), url, dist.file.size);
                    }
                }
                _ => {}
            }
        }
        let rest = resolution.filter(|dist| match dist {
            ResolvedDist::Installable { dist, .. } => match dist.as_ref() {
                Dist::Built(BuiltDist::Registry(dist)) => !self.has(&dist.best_wheel().file),
                Dist::Source(SourceDist::Registry(dist)) => !self.has(&dist.file),
                _ => true,
            },
            ResolvedDist::Installed { .. } => true,
        });
        gathered.extend(&rest, folder);
        gathered.finish(file)
    }

    /// Whether a file was hashed here.
    fn has(&self, dist: &File) -> bool {
        self.0.contains_key(dist.filename.as_ref() as &str)
    }

    /// The hash of a file of this machine that its index has no hash of.
    fn hash(&mut self, dist: &File, pin: String, file: &Path) -> Result<Option<String>, Error> {
        if sha256(dist.hashes.as_slice()).is_some() {
            return Ok(None);
        }
        let Some(path) = dist.url.to_url().ok().and_then(|url| url.to_file_path().ok()) else {
            return Ok(None);
        };
        let sha256 = digest(&path).map_err(|error| Error::Index {
            file: file.to_owned(),
            message: format!("{}: {error}", path.display()),
        })?;
        self.0.insert(dist.filename.to_string(), Hashed { pin, sha256: sha256.clone() });
        Ok(Some(sha256))
    }

    /// A requirements.txt with the hashes that it lacks.
    pub(crate) fn in_requirements(&self, text: &str) -> String {
        let mut written = String::with_capacity(text.len());
        for line in text.lines() {
            written.push_str(line);
            if let Some(Hashed { sha256, .. }) = self.0.values().find(|hashed| hashed.pin == line) {
                written.push_str(&format!(" \\\n    --hash=sha256:{sha256}"));
            }
            written.push('\n');
        }
        written
    }

    /// A pylock.toml or uv.lock with the hashes that it lacks.
    pub(crate) fn in_toml(&self, text: &str) -> Result<String, String> {
        if self.0.is_empty() {
            return Ok(text.to_owned());
        }
        let mut lock: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| plain(&error))?;
        for key in ["package", "packages"] {
            let packages = lock.get_mut(key).and_then(Item::as_array_of_tables_mut);
            for package in packages.into_iter().flat_map(|packages| packages.iter_mut()) {
                self.complete(package);
            }
        }
        Ok(lock.to_string())
    }

    fn complete(&self, package: &mut Table) {
        if let Some(sdist) = package.get_mut("sdist").and_then(Item::as_inline_table_mut) {
            self.complete_file(sdist);
        }
        let wheels = package.get_mut("wheels").and_then(Item::as_array_mut);
        for wheel in wheels.into_iter().flat_map(|wheels| wheels.iter_mut()) {
            if let Some(wheel) = wheel.as_inline_table_mut() {
                self.complete_file(wheel);
            }
        }
    }

    fn complete_file(&self, entry: &mut InlineTable) {
        let place = ["name", "path", "url"].into_iter().find_map(|key| entry.get(key)?.as_str());
        let end = place.and_then(|place| place.rsplit('/').next()).unwrap_or_default();
        let name = percent_encoding::percent_decode_str(end).decode_utf8_lossy().into_owned();
        let Some(Hashed { sha256, .. }) = self.0.get(&name) else { return };
        if let Some(hashes) = entry.get_mut("hashes") {
            if let Some(hashes) = hashes.as_inline_table_mut().filter(|hashes| hashes.is_empty()) {
                hashes.insert("sha256", Value::from(sha256.as_str()));
                hashes.fmt();
            }
        } else if !entry.contains_key("hash") {
            entry.insert("hash", Value::from(format!("sha256:{sha256}")));
            entry.fmt();
        }
    }
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes() -> Hashes {
        let hashed = Hashed { pin: "my-lib==1.0+a".to_owned(), sha256: "00ff".to_owned() };
        Hashes([("my_lib-1.0+a-py3-none-any.whl".to_owned(), hashed)].into())
    }

    #[test]
    fn requirements_get_what_they_lack() {
        let text = "my-lib==1.0+a\n    # via other\nother==1.0 \\\n    --hash=sha256:11\n";
        let expect = "my-lib==1.0+a \\\n    --hash=sha256:00ff\n    # via other\nother==1.0 \\\n    --hash=sha256:11\n";
        assert_eq!(hashes().in_requirements(text), expect);
    }

    #[track_caller]
    fn check(text: &str, expect: &str) {
        assert_eq!(hashes().in_toml(text).as_deref(), Ok(expect));
    }

    #[test]
    fn locks_get_what_they_lack() {
        let file = "my_lib-1.0+a-py3-none-any.whl";
        check(
            &format!("[[package]]\nwheels = [\n    {{ path = \"wheels/{file}\" }},\n]\n"),
            &format!(
                "[[package]]\nwheels = [\n    {{ path = \"wheels/{file}\", hash = \"sha256:00ff\" }},\n]\n"
            ),
        );
        check(
            "[[packages]]\nwheels = [{ url = \"file:///w/my_lib-1.0%2Ba-py3-none-any.whl\", hashes = {} }]\n",
            "[[packages]]\nwheels = [{ url = \"file:///w/my_lib-1.0%2Ba-py3-none-any.whl\", hashes = { sha256 = \"00ff\" } }]\n",
        );
        let known = format!("[[package]]\nwheels = [{{ path = \"{file}\", hash = \"sha256:11\" }}]\n");
        check(&known, &known);
        let other = "[[package]]\nwheels = [{ path = \"other-1.0-py3-none-any.whl\" }]\n";
        check(other, other);
    }
}
