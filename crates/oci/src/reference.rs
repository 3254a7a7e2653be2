use oci_spec::image as spec;

use crate::{Descriptor, Error};

/// The annotation by which `index.json` names what it points to.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A name in a layout or an archive, and what it stands for: an image's manifest, or an index over its platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    name: String,
    descriptor: Descriptor,
}

impl Ref {
    /// Names `descriptor`.
    ///
    /// # Errors
    /// [`Error::RefName`] unless the name is made of letters and digits, single `-`, `.`, `_`, `:`, `@`, `+` or `--`
    /// between them, and `/` between such parts. Source: OCI image specification, "Pre-Defined Annotation Keys".
    pub fn new(name: impl Into<String>, descriptor: Descriptor) -> Result<Self, Error> {
        let name = name.into();
        if !is_ref_name(&name) {
            return Err(Error::RefName { name });
        }
        Ok(Self { name, descriptor })
    }

    /// Takes a name that is in use already.
    pub(crate) const fn existing(name: String, descriptor: Descriptor) -> Self {
        Self { name, descriptor }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it stands for.
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The entry of `index.json`: the descriptor with the name as an annotation.
    pub(crate) fn to_spec(&self) -> spec::Descriptor {
        let mut descriptor = self.descriptor.clone();
        descriptor.annotations.insert(REF_NAME.to_owned(), self.name.clone());
        descriptor.to_spec()
    }
}

/// The entries of a new `index.json`, sorted by name.
pub(crate) fn index_entries(refs: &[Ref]) -> Result<Vec<spec::Descriptor>, Error> {
    let mut sorted: Vec<_> = refs.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some([first, second]) = sorted.array_windows().find(|[first, second]| first.name == second.name) {
        return Err(Error::Duplicate {
            what: format!("image `{}`", first.name),
            first: first.descriptor.digest,
            second: second.descriptor.digest,
        });
    }
    Ok(sorted.into_iter().map(Ref::to_spec).collect())
}

fn is_ref_name(name: &str) -> bool {
    name.split('/').all(|component| {
        // `--` is one separator; every other separator stands alone between letters and digits.
        component
            .replace("--", "-")
            .split(['-', '.', '_', ':', '@', '+'])
            .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    })
}

#[cfg(test)]
mod tests {
    use super::is_ref_name;

    fn check(name: &str, valid: bool) {
        assert_eq!(is_ref_name(name), valid, "{name}");
    }

    #[test]
    fn names() {
        for name in
            ["runtime", "serve-cu12.8-py3.11", "example.org/app:1.0", "a--b", "a@sha256:00", "A/b_c+d"]
        {
            check(name, true);
        }
        for name in ["", "/", "a/", "-a", "a-", "a---b", "a..b", "a b", "ä", "a\n", "../a"] {
            check(name, false);
        }
    }
}
