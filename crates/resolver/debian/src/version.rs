//! The order of Debian versions: `[epoch:]upstream[-revision]`.
//!
//! Written here because it is forty lines of a rule that has not changed in decades, and because the published crates
//! allocate and match regular expressions for each of an archive's 60,000 versions. Source: Debian policy 5.6.12,
//! `deb-version(7)`; judged by `dpkg --compare-versions` (the table below).

use std::cmp::Ordering;

/// Compares two versions as dpkg does: `1.0~rc1` < `1.0` < `1.0-1` < `1.0-1+deb12u1` < `1:0.9`.
pub fn compare_versions(left: &str, right: &str) -> Ordering {
    let (left_epoch, left) = epoch(left);
    let (right_epoch, right) = epoch(right);
    let ((left, left_revision), (right, right_revision)) = (revision(left), revision(right));
    compare_numbers(left_epoch, right_epoch)
        .then_with(|| compare_parts(left, right))
        .then_with(|| compare_parts(left_revision, right_revision))
}

/// Whether a text has the form of a version: printable, with the characters that policy allows.
pub(crate) fn is_version(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".+-~:_".contains(&byte);
    let (epoch, rest) = epoch(text);
    !rest.is_empty() && text.bytes().all(allowed) && epoch.iter().all(u8::is_ascii_digit)
}

/// The epoch and what follows it; a missing epoch is 0.
fn epoch(version: &str) -> (&[u8], &[u8]) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.as_bytes(), rest.as_bytes()),
        None => (b"0", version.as_bytes()),
    }
}

/// The upstream version and the revision behind the last hyphen; a missing revision equals `0`.
fn revision(version: &[u8]) -> (&[u8], &[u8]) {
    match version.iter().rposition(|byte| *byte == b'-') {
        Some(at) => {
            let (upstream, revision) = version.split_at(at);
            (upstream, revision.strip_prefix(b"-").unwrap_or(revision))
        }
        None => (version, b""),
    }
}

/// Compares alternately the longest prefixes without digits and the longest prefixes of digits.
fn compare_parts(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split(left, |byte| !byte.is_ascii_digit());
        let (right_text, right_rest) = split(right, |byte| !byte.is_ascii_digit());
        let (left_number, left_rest) = split(left_rest, u8::is_ascii_digit);
        let (right_number, right_rest) = split(right_rest, u8::is_ascii_digit);
        let order =
            compare_texts(left_text, right_text).then_with(|| compare_numbers(left_number, right_number));
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn split(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !belongs(byte)).unwrap_or(text.len()))
}

/// `~` sorts before the end, the end before letters, letters before everything else.
fn compare_texts(left: &[u8], right: &[u8]) -> Ordering {
    let weight = |text: &[u8], at: usize| match text.get(at) {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    (0..left.len().max(right.len()))
        .map(|at| weight(left, at).cmp(&weight(right, at)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Numbers of any length; an empty one is 0.
fn compare_numbers(left: &[u8], right: &[u8]) -> Ordering {
    let (_, left) = split(left, |byte| *byte == b'0');
    let (_, right) = split(right, |byte| *byte == b'0');
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &str, operator: &str, right: &str) {
        let expected = match operator {
            "<" => Ordering::Less,
            "=" => Ordering::Equal,
            _ => Ordering::Greater,
        };
        assert_eq!(compare_versions(left, right), expected, "{left} {operator} {right}");
        assert_eq!(compare_versions(right, left), expected.reverse(), "{right} against {left}");
    }

    /// Every line was confirmed with `dpkg --compare-versions` (dpkg 1.21.22).
    #[test]
    fn orders_as_dpkg_does() {
        check("1.0~rc1", "<", "1.0");
        check("1.0", "<", "1.0-1");
        check("1.0-1", "<", "1.0-1+deb12u1");
        check("1.0-1~bpo12+1", "<", "1.0-1");
        check("2.36-9+deb12u9", "<", "2.36-9+deb12u10");
        check("1:0.9", ">", "2.0");
        check("0:1.0", "=", "1.0");
        check("1.0", "=", "1.0-0");
        check("1.0", "=", "1.00");
        check("1.01", "=", "1.1");
        check("1.2.3", "<", "1.2.10");
        check("1.0a", ">", "1.0");
        check("1.0a", "<", "1.0+");
        check("1.0-1-1", ">", "1.0-1");
        check("7.88.1-10", "<", "7.88.1-10+deb12u5");
        check("20230311", "<", "20230311+deb12u1");
        check("1.1.1n-0+deb11u5", "<", "3.0.11-1~deb12u2");
        check("99999999999999999999999", "<", "100000000000000000000000");
        check("~~", "<", "~");
        check("~", "<", "");
        check("1~~a", "<", "1~");
        check("1.", ">", "1");
        check("1.a", "<", "1.+");
    }

    #[test]
    fn knows_a_version_by_its_form() {
        for good in ["1", "1:2.3-4", "2.36-9+deb12u9", "1.0~rc1", "0.0.0~git20160722.0.d8f4eb7-2"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "1 2", "1:", "a:1", "1/2", "1\n", "é"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
