//! Numbers as people write and read them.

use std::time::Duration;

/// Bytes in powers of ten, as registries and disks count them: `12.3 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// `500M`, `50G`, `1.5G`: powers of ten; a plain number is bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
        "" | "B" => 1.0,
        "K" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        _ => return Err("expected a size such as 500M or 50G".to_owned()),
    };
    match digits.parse::<f64>() {
        Ok(number) if number >= 0.0 => Ok((number * factor) as u64),
        _ => Err("expected a size such as 500M or 50G".to_owned()),
    }
}

/// `12h`, `30d`, `8w`.
pub(crate) fn parse_age(text: &str) -> Result<Duration, String> {
    let error = || "expected an age such as 12h, 30d or 8w".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return Err(error()),
    };
    let number: u64 = digits.parse().map_err(|_| error())?;
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(error)
}

/// Seconds with one digit after the dot, milliseconds below a second.
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
        seconds => format!("{seconds:.1} s"),
    }
}

/// Text without what a terminal would obey: much of it comes from builds, registries and archives.
pub(crate) fn plain(text: &str) -> String {
    let plain =
        |char: char| if char.is_control() && !matches!(char, '\n' | '\t') { '\u{fffd}' } else { char };
    text.chars().map(plain).collect()
}

/// A command as one line, so that a reader sees where an argument ends: those with anything unusual in them are quoted as in a
/// shell, and a long one is cut off.
pub(crate) fn command(arguments: &[String]) -> String {
    const LONGEST: usize = 100;
    let is_plain = |char: char| char.is_alphanumeric() || "-_./=:,+@%".contains(char);
    let argument = |text: &String| match !text.is_empty() && text.chars().all(is_plain) {
        true => text.clone(),
        false => format!("'{}'", text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")),
    };
    let line = arguments.iter().map(argument).collect::<Vec<_>>().join(" ");
    match line.chars().count() > LONGEST {
        true => line.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lines() {
        let check = |arguments: &[&str], expected: &str| {
            let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(command(&arguments), expected);
        };
        check(&["python", "-m", "app"], "python -m app");
        check(&["python", "-c", "print(\"a\")\r\nexit()"], r#"python -c 'print("a")\r\nexit()'"#);
        check(&["echo", "", "a b"], "echo '' 'a b'");
        check(&[&"x".repeat(200)], &format!("{}…", "x".repeat(99)));
    }

    #[test]
    fn sizes() {
        for (count, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_999, "1.0 MB"), (3_900_000_000, "3.9 GB")]
        {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(parse_size("1.5G"), Ok(1_500_000_000));
        assert_eq!(parse_size("7"), Ok(7));
        for bad in ["", "G", "-1G", "1X", "1 G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages() {
        assert_eq!(parse_age("30d"), Ok(Duration::from_secs(30 * 24 * 3600)));
        for bad in ["", "d", "30", "-1d", "1y", "99999999999999999w"] {
            assert!(parse_age(bad).is_err(), "{bad}");
        }
    }
}
