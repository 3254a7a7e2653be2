//! Platform tags: what a wheel's file name says about the systems that it runs on.
//!
//! # The rule
//! A wheel whose platform is `linux_ARCH`, or already some `manylinux`, gets `manylinux_2_NN_ARCH`, where `2.NN` is the
//! highest version of glibc that a library or program of that architecture in it asks for, and no lower than the first
//! that installers know for it. **Nothing but glibc decides**: that is what installers compare with the system (PEP 600),
//! and where a wheel compiled on a newer Debian than the image's would fail first.
//!
//! This is less than auditwheel asks for, which calls a wheel manylinux only when it needs no library outside of a short
//! list. A torch extension needs `libtorch.so`, which another wheel of the same environment brings; by auditwheel's rule
//! it could only ever be `linux_ARCH`, which says nothing at all about the system. So what is outside of that list is
//! reported ([`Report::beyond_manylinux`](super::Report::beyond_manylinux)) and does not change the tag: these wheels go
//! into images that this program makes, not to an index where anybody may take them.
//!
//! `any` stays `any`, also with ELF files in it (test data, a program for another processor), and so does what is made for
//! musl or another system.

/// A version of glibc: major and minor.
pub type Glibc = (u32, u32);

/// The platform part of a wheel's file name that follows from what its ELF files need of glibc; `None` when the one it has
/// is to stay.
pub(super) fn retag(platform: &str, needed: Option<Glibc>) -> Option<String> {
    let architecture = architecture(platform)?;
    let glibc = needed.unwrap_or_default().max(first_glibc(architecture)?);
    let (major, minor) = glibc;
    Some(format!("manylinux_{major}_{minor}_{architecture}"))
}

/// The processor that a wheel for glibc is made for; `None` for other platforms, and for several at once.
pub(super) fn architecture(platform: &str) -> Option<&str> {
    let mut architectures = platform.split('.').map(|tag| {
        let rest = tag.strip_prefix("linux_").or_else(|| {
            let rest = tag.strip_prefix("manylinux")?;
            // manylinux1_x86_64, manylinux2014_x86_64, manylinux_2_28_x86_64
            match rest.strip_prefix('_') {
                Some(perennial) => {
                    let (major, rest) = perennial.split_once('_')?;
                    let (minor, rest) = rest.split_once('_')?;
                    [major, minor].iter().all(|part| is_number(part)).then_some(rest)
                }
                None => rest.split_once('_').filter(|(year, _)| is_number(year)).map(|(_, rest)| rest),
            }
        });
        rest.filter(|rest| !rest.is_empty())
    });
    let first = architectures.next()??;
    architectures.all(|other| other == Some(first)).then_some(first)
}

/// The first glibc for which installers know a tag. Source: PEP 513, 571, 599 and 600, and the tags that uv and pip make.
const fn first_glibc(architecture: &str) -> Option<Glibc> {
    match architecture.as_bytes() {
        b"x86_64" | b"i686" => Some((2, 5)),
        b"aarch64" | b"armv7l" | b"ppc64" | b"ppc64le" | b"s390x" => Some((2, 17)),
        b"riscv64" => Some((2, 31)),
        b"loongarch64" => Some((2, 36)),
        _ => None,
    }
}

/// The version of glibc that a version of one of its symbols stands for; `None` for other symbols'.
pub(super) fn glibc(version: &str) -> Option<Glibc> {
    // A relocation format, without a symbol: `man ld`, `-z pack-relative-relocs`.
    if version == "GLIBC_ABI_DT_RELR" {
        return Some((2, 36));
    }
    let mut parts = version.strip_prefix("GLIBC_")?.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().unwrap_or("0").parse().ok()?;
    Some((major, minor))
}

/// Whether every system that a manylinux tag stands for has this library. Source: auditwheel's `manylinux-policy.json`,
/// which repeats PEP 513, 571, 599 and adds to them.
pub(super) fn is_in_manylinux(library: &str) -> bool {
    const LIBRARIES: [&str; 27] = [
        "libGL.so.1",
        "libICE.so.6",
        "libSM.so.6",
        "libX11.so.6",
        "libXext.so.6",
        "libXrender.so.1",
        "libanl.so.1",
        "libatomic.so.1",
        "libc.so.6",
        "libdl.so.2",
        "libexpat.so.1",
        "libgcc_s.so.1",
        "libglib-2.0.so.0",
        "libgobject-2.0.so.0",
        "libgthread-2.0.so.0",
        "libm.so.6",
        "libmvec.so.1",
        "libnsl.so.1",
        "libpthread.so.0",
        "libresolv.so.2",
        "librt.so.1",
        "libstdc++.so.6",
        "libthread_db.so.1",
        "libutil.so.1",
        "libz.so.1",
        // The loader itself, by its names for 64 bits of other processors.
        "ld64.so.1",
        "ld64.so.2",
    ];
    library.starts_with("ld-linux") || LIBRARIES.contains(&library)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(platform: &str, needed: Option<Glibc>, expected: &str) {
        assert_eq!(retag(platform, needed).as_deref().unwrap_or(platform), expected);
    }

    #[test]
    fn glibc_decides() {
        check("linux_x86_64", Some((2, 34)), "manylinux_2_34_x86_64");
        check("linux_x86_64", Some((2, 2)), "manylinux_2_5_x86_64");
        check("linux_x86_64", None, "manylinux_2_5_x86_64");
        check("linux_aarch64", Some((2, 4)), "manylinux_2_17_aarch64");
        check("linux_riscv64", Some((2, 40)), "manylinux_2_40_riscv64");
        check("manylinux_2_34_x86_64", Some((2, 14)), "manylinux_2_14_x86_64");
        check("manylinux_2_17_x86_64.manylinux2014_x86_64", Some((2, 28)), "manylinux_2_28_x86_64");
        check("manylinux1_i686", Some((2, 7)), "manylinux_2_7_i686");
    }

    #[test]
    fn the_rest_stays() {
        for platform in [
            "any",
            "musllinux_1_2_x86_64",
            "macosx_11_0_arm64",
            "win_amd64",
            "linux_mips",
            "linux_x86_64.linux_aarch64",
            "linux_x86_64.any",
            "linux_",
            "manylinux_2_x86_64",
            "manylinux_x86_64",
            "",
        ] {
            check(platform, Some((2, 34)), platform);
        }
    }

    #[test]
    fn versions_of_symbols() {
        assert_eq!(glibc("GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(glibc("GLIBC_2.38"), Some((2, 38)));
        assert_eq!(glibc("GLIBC_ABI_DT_RELR"), Some((2, 36)));
        for other in
            ["GLIBC_PRIVATE", "GLIBCXX_3.4.30", "GLIBC_", "GLIBC_2.x", "libfoo_2.1", "GLIBC_99999999999.1"]
        {
            assert_eq!(glibc(other), None, "{other}");
        }
    }
}
