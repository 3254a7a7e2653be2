//! A [`Target`] in uv's words: marker values and wheel tags, made without asking an interpreter.

use imgforge_resolver_core::{Architecture, Libc, Target};
use uv_distribution_types::RequiresPython;
use uv_pep440::Version;
use uv_pep508::{MarkerEnvironment, MarkerEnvironmentBuilder};
use uv_platform_tags::{Arch, Os, Platform, Tags, TagsOptions};
use uv_pypi_types::ResolverMarkerEnvironment;

use crate::error::{Error, plain};

/// What markers are evaluated with and wheels are chosen by.
pub(crate) struct Environment {
    pub(crate) markers: ResolverMarkerEnvironment,
    pub(crate) tags: Tags,
    /// For messages: `cp311 on manylinux_2_36_x86_64`.
    pub(crate) words: String,
}

impl Environment {
    pub(crate) fn new(target: &Target) -> Result<Self, Error> {
        let python = || Error::Python { python: target.python.clone() };
        let (major, minor, patch) = release(&target.python).ok_or_else(python)?;
        let short = format!("{major}.{minor}");
        let full = format!("{major}.{minor}.{patch}");
        let (arch, machine) = match target.architecture {
            Architecture::Amd64 => (Arch::X86_64, "x86_64"),
            Architecture::Arm64 => (Arch::Aarch64, "aarch64"),
        };
        let (os, libc) = match target.libc {
            Libc::Glibc { major, minor } => {
                (Os::Manylinux { major, minor }, format!("manylinux_{major}_{minor}_{machine}"))
            }
            Libc::Musl { major, minor } => {
                (Os::Musllinux { major, minor }, format!("musllinux_{major}_{minor}_{machine}"))
            }
        };
        let words = format!("cp{major}{minor} on {libc}");

        // Kernel release and version stay empty, as in uv's own cross-platform runs: the image will meet many.
        let markers: MarkerEnvironment = MarkerEnvironmentBuilder {
            implementation_name: "cpython",
            implementation_version: &full,
            os_name: "posix",
            platform_machine: machine,
            platform_python_implementation: "CPython",
            platform_release: "",
            platform_system: "Linux",
            platform_version: "",
            python_full_version: &full,
            python_version: &short,
            sys_platform: "linux",
        }
        .try_into()
        .map_err(|_| python())?;
        let tags = Tags::from_env(
            Platform::new(os, arch),
            (major, minor),
            "cpython",
            (major, minor),
            TagsOptions {
                manylinux_compatible: true,
                gil_disabled: false,
                debug_enabled: false,
                is_cross: true,
            },
        )
        .map_err(|error| Error::Tags { target: words.clone(), message: plain(&error) })?;
        Ok(Self { markers: markers.into(), tags, words })
    }

    /// As uv counts versions of Python: `3.12` for 3.12.0, else `3.12.7`.
    pub(crate) fn requires_python(&self) -> RequiresPython {
        RequiresPython::greater_than_equal_version(&self.python().clone().without_trailing_zeros())
    }

    /// `MAJOR.MINOR.PATCH` of the target.
    pub(crate) fn python(&self) -> &Version {
        &self.markers.markers().python_full_version().version
    }
}

/// The three numbers of a version of Python 3; a missing patch is 0.
fn release(python: &str) -> Option<(u8, u8, u32)> {
    let mut parts = python.split('.');
    let mut number = || {
        let part = parts.next()?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u32>().ok()).flatten()
    };
    let (major, minor, patch) = (number()?, number()?, number());
    let whole = match python.matches('.').count() {
        1 => patch.is_none(),
        2 => patch.is_some(),
        _ => false,
    };
    let minor = u8::try_from(minor).ok()?;
    (whole && major == 3).then_some((3, minor, patch.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(python: &str, expect: Option<(u8, u8, u32)>) {
        assert_eq!(release(python), expect, "{python}");
    }

    #[test]
    fn versions_of_python() {
        check("3.11", Some((3, 11, 0)));
        check("3.14.2", Some((3, 14, 2)));
        for wrong in
            ["", "3", "2.7", "3.", "3.x", "3.11.", "3.11.2.1", "3.300", "3.13rc1", "3.11.-1", "+3.11"]
        {
            check(wrong, None);
        }
    }
}
