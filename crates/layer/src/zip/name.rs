//! Names of entries, which become paths of a layer.

use super::{Error, Limits, NameProblem};

const COMPONENT_MAX: usize = 255;

/// Checks an entry's name; `is_utf8` is the flag that declares its encoding (4.4.4, bit 11).
///
/// Without the flag the encoding is IBM code page 437 by the specification, the local one by habit, and UTF-8 by
/// others' habit: only ASCII is the same in all of them.
pub fn check(bytes: &[u8], is_utf8: bool, limits: &Limits) -> Result<String, Error> {
    let lossy = || String::from_utf8_lossy(bytes).into_owned();
    let subject = || format!("the entry {:?}", lossy());
    let refuse = |problem| Error::Name { name: lossy(), problem };
    let length = bytes.len() as u64;
    Limits::check(subject, "bytes of name", length, limits.name)?;
    let name = str::from_utf8(bytes)
        .map_err(|_| refuse(if is_utf8 { NameProblem::NotUtf8 } else { NameProblem::NotAscii }))?;
    if !is_utf8 && !name.is_ascii() {
        return Err(refuse(NameProblem::NotAscii));
    }
    if let Some(problem) = problem(name) {
        return Err(refuse(problem));
    }
    let depth = name.split('/').count() as u64;
    Limits::check(subject, "components of name", depth, limits.depth)?;
    Ok(name.to_owned())
}

fn problem(name: &str) -> Option<NameProblem> {
    if name.is_empty() {
        return Some(NameProblem::Empty);
    }
    if name.contains(char::is_control) {
        return Some(NameProblem::ControlCharacter);
    }
    if name.contains('\\') {
        return Some(NameProblem::Backslash);
    }
    if name.starts_with('/') {
        return Some(NameProblem::Absolute);
    }
    if let [letter, b':', ..] = name.as_bytes()
        && letter.is_ascii_alphabetic()
    {
        return Some(NameProblem::DriveLetter);
    }
    // One trailing slash is what makes a directory.
    name.strip_suffix('/').unwrap_or(name).split('/').find_map(|component| match component {
        "" => Some(NameProblem::EmptyComponent),
        "." | ".." => Some(NameProblem::RelativeComponent),
        _ if component.len() > COMPONENT_MAX => Some(NameProblem::LongComponent),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_name(name: &[u8], is_utf8: bool, expected: Option<NameProblem>) {
        let problem = match check(name, is_utf8, &Limits::default()) {
            Ok(checked) => {
                assert_eq!(checked.as_bytes(), name);
                None
            }
            Err(Error::Name { problem, .. }) => Some(problem),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(problem, expected, "{:?}", String::from_utf8_lossy(name));
    }

    #[test]
    fn names() {
        check_name(b"a", false, None);
        check_name(b"a/b.py", false, None);
        check_name(b"a/b/", false, None);
        check_name(b"a/..b/c..d/...", false, None);
        check_name(b"ab:c", false, None);
        check_name("é/ü".as_bytes(), true, None);
        check_name("é".as_bytes(), false, Some(NameProblem::NotAscii));
        check_name(b"\x82", false, Some(NameProblem::NotAscii));
        check_name(b"\x82", true, Some(NameProblem::NotUtf8));
        check_name(b"\xed\xa0\x80", true, Some(NameProblem::NotUtf8));
        check_name(b"", false, Some(NameProblem::Empty));
        check_name(b"a\0b", false, Some(NameProblem::ControlCharacter));
        check_name(b"a\nb", false, Some(NameProblem::ControlCharacter));
        check_name("a\u{85}b".as_bytes(), true, Some(NameProblem::ControlCharacter));
        check_name(b"a\\b", false, Some(NameProblem::Backslash));
        check_name(b"/a", false, Some(NameProblem::Absolute));
        check_name(b"/", false, Some(NameProblem::Absolute));
        check_name(b"C:/a", false, Some(NameProblem::DriveLetter));
        check_name(b"c:a", false, Some(NameProblem::DriveLetter));
        check_name(b"a//b", false, Some(NameProblem::EmptyComponent));
        check_name(b"a//", false, Some(NameProblem::EmptyComponent));
        check_name(b"./a", false, Some(NameProblem::RelativeComponent));
        check_name(b"a/.", false, Some(NameProblem::RelativeComponent));
        check_name(b"../a", false, Some(NameProblem::RelativeComponent));
        check_name(b"a/../b", false, Some(NameProblem::RelativeComponent));
        check_name(b"a/../", false, Some(NameProblem::RelativeComponent));
        check_name(b"..", false, Some(NameProblem::RelativeComponent));
        check_name(&[b'a'; 255], false, None);
        check_name(&[b'a'; 256], false, Some(NameProblem::LongComponent));
    }

    #[test]
    fn limits() {
        let limits = Limits { name: 5, depth: 2, ..Limits::default() };
        assert!(check(b"a/b", false, &limits).is_ok());
        assert!(matches!(check(b"a/bcde", false, &limits), Err(Error::Limit { value: 6, limit: 5, .. })));
        assert!(matches!(check(b"a/b/c", false, &limits), Err(Error::Limit { value: 3, limit: 2, .. })));
    }
}
