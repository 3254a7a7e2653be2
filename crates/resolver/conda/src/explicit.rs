//! `@EXPLICIT` files: URLs of packages in the order in which they are linked, with hashes after `#`.
//!
//! Lines are read here and not by rattler, whose reader knows no line numbers and whose URLs may be anything. What conda-lock
//! writes beside them is read too: its wheels stand in comments, `# pip NAME @ URL#sha256=HEX`.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;

use imgforge_resolver_core::{CondaEnvironment, CondaNoarch, CondaPackage};
use rattler_conda_types::{PackageName, Subdir};
use url::Url;

use crate::error::{Error, Unusable, plain_text};
use crate::location::{Place, folder};
use crate::package::{Gathered, LIMIT, Noarch, archive, check_words};
use crate::python::python;
use crate::wheel;

/// Reads an `@EXPLICIT` file, all of which is to be installed on `subdir` (`linux-64`).
///
/// `file` is its path: messages name it. Packages keep the file's order. The format does not say of what kind a package without
/// a platform is; all of them count as Python's here, which is told when they are read.
///
/// # Errors
///
/// [`Error::Line`] for a line that names no package, has no hash or names a package again, and for packages of another
/// platform; [`Error::Platform`] where the file says that it is for another platform; [`Error::Parse`] when it is no
/// `@EXPLICIT` file.
pub fn explicit(text: &str, file: &Path, subdir: &str) -> Result<CondaEnvironment, Error> {
    folder(file).map_err(|message| Error::Unsupported { file: file.to_owned(), message })?;
    let mut reader = Reader {
        file,
        subdir,
        explicit: false,
        packages: Vec::new(),
        seen: BTreeMap::new(),
        wheels: Gathered::new(subdir, Noarch::Unknown, "run `conda-lock render --kind explicit` again"),
    };
    for (index, line) in text.lines().enumerate() {
        reader.line(index + 1, line.trim())?;
    }
    if !reader.explicit {
        return Err(Error::Parse {
            file: file.to_owned(),
            format: "@EXPLICIT file",
            message: "there is no line `@EXPLICIT`; `conda list --explicit --sha256` writes one".to_owned(),
        });
    }
    let wheels = reader.wheels.finish(file)?.wheels;
    let interpreter = reader.packages.iter().find(|package| package.name == "python");
    let python = interpreter
        .map(|package| python(&package.version, &package.build, None))
        .transpose()
        .map_err(|message| Error::Unsupported { file: file.to_owned(), message })?;
    Ok(CondaEnvironment { packages: reader.packages, wheels, python })
}

struct Reader<'a> {
    file: &'a Path,
    subdir: &'a str,
    /// Whether the tag was read.
    explicit: bool,
    packages: Vec<CondaPackage>,
    /// Names, each with its line.
    seen: BTreeMap<String, usize>,
    wheels: Gathered<'a>,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Error> {
        let wrong = |message: String| Error::Line { file: self.file.to_owned(), line: number, message };
        if let Some(comment) = line.strip_prefix('#') {
            return self.comment(number, comment.trim());
        }
        if line.is_empty() {
            return Ok(());
        }
        if line == "@EXPLICIT" {
            self.explicit = true;
            return Ok(());
        }
        if !self.explicit {
            return Err(wrong(
                "it stands before `@EXPLICIT`: a list without that is one of requirements, which are resolved from an \
                 environment.yml"
                    .to_owned(),
            ));
        }
        let package = self.package(line).map_err(|message| wrong(plain_text(&message)))?;
        if let Some(before) = self.seen.insert(package.name.clone(), number) {
            return Err(wrong(format!("{} is there twice: it is on line {before} too", package.name)));
        }
        if self.packages.len() >= LIMIT {
            return Err(wrong(format!("there are more than {LIMIT} packages, which no environment has")));
        }
        self.packages.push(package);
        Ok(())
    }

    fn comment(&mut self, number: usize, comment: &str) -> Result<(), Error> {
        if let Some(platform) = comment.strip_prefix("platform:") {
            let platform = platform.trim();
            if platform != self.subdir {
                return Err(Error::Platform {
                    file: self.file.to_owned(),
                    environment: None,
                    platform: plain_text(self.subdir),
                    platforms: vec![plain_text(platform)],
                });
            }
        }
        let Some((name, url)) = comment.strip_prefix("pip ").and_then(|rest| rest.split_once(" @ ")) else {
            return Ok(());
        };
        let wrong = |message: String| Error::Line {
            file: self.file.to_owned(),
            line: number,
            message: plain_text(&message),
        };
        let name = wheel::normalised(name.trim());
        let url = Url::parse(url.trim()).map_err(|error| wrong(format!("{name} has no URL: {error}")))?;
        let hash = url.fragment().and_then(|hash| hash.strip_prefix("sha256="));
        let hash = hash.map(|hash| digest(hash, 64)).transpose().map_err(wrong)?;
        let bytes = hash.as_deref().and_then(bytes);
        let place = Place::of_url(&url).map_err(|message| wrong(format!("{name}: {message}")))?;
        match wheel::wheel(&name, None, place, bytes.as_deref(), &self.wheels) {
            Ok(artifact) => self.wheels.wheel(artifact),
            Err(reason) => return Err(wrong(Unusable { name, version: None, reason }.to_string())),
        }
        Ok(())
    }

    fn package(&self, line: &str) -> Result<CondaPackage, String> {
        let url = Url::parse(line).map_err(|error| {
            format!("{line:?} is no URL ({error}): packages are `https://…` or `file:///…`")
        })?;
        let place = Place::of_url(&url)?;
        let identifier = archive(&place.file)?.identifier;
        check_words(&identifier.name.to_ascii_lowercase(), &identifier.version, &identifier.build_string)?;
        let name = PackageName::from_str(&identifier.name).map_err(|error| error.to_string())?;
        if Subdir::from_str(&place.folder).is_err() {
            return Err(format!(
                "{} is in no folder of a platform: a channel has it in `{}` or `noarch`",
                place.file, self.subdir
            ));
        }
        if place.folder != self.subdir && place.folder != Subdir::NoArch.as_str() {
            return Err(format!(
                "{} is made for {}, and the environment is for {}",
                place.file, place.folder, self.subdir
            ));
        }
        let (sha256, md5) = match url.fragment() {
            None | Some("") => {
                return Err(format!(
                    "{} has no hash: write the file with `conda list --explicit --sha256`",
                    place.file
                ));
            }
            Some(hash) => match hash.strip_prefix("sha256:") {
                Some(hash) => (Some(digest(hash, 64)?), None),
                None if hash.len() == 64 => (Some(digest(hash, 64)?), None),
                None => (None, Some(digest(hash, 32)?)),
            },
        };
        let noarch =
            if place.folder == Subdir::NoArch.as_str() { CondaNoarch::Python } else { CondaNoarch::No };
        Ok(CondaPackage {
            name: name.as_normalized().to_owned(),
            version: identifier.version,
            build: identifier.build_string,
            subdir: place.folder,
            file: place.file,
            location: place.location,
            sha256,
            md5,
            size: None,
            noarch,
            record: None,
        })
    }
}

/// A hash as lower-case hexadecimal digits.
fn digest(text: &str, digits: usize) -> Result<String, String> {
    if text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("{text:?} is no hash: an MD5 has 32 hexadecimal digits, a SHA-256 has 64 after `sha256:`"))
}

/// The bytes that hexadecimal digits stand for.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}
