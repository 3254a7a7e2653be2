//! Dates as archives write them: `Sat, 11 Jul 2026 10:16:37 UTC`.
//!
//! One fixed form of RFC 2822 in UTC, which is all that apt accepts in a Release; a calendar crate would bring time
//! zones, locales and the clock.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const DAY: u64 = 86_400;

/// Seconds since 1970, or nothing if the text has another form.
pub(crate) fn parse_date(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_weekday, day, month, year, time, zone] = words.as_slice() else { return None };
    if !["UTC", "GMT", "Z", "+0000"].contains(zone) {
        return None;
    }
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? as u64;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let mut clock = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = (1970..10_000).contains(&year)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && clock.next().is_none();
    in_range.then(|| days(year, month, day) * DAY + hour * 3600 + minute * 60 + second)
}

/// Writes seconds since 1970 in the same form.
pub(crate) fn format_date(seconds: u64) -> String {
    let (number, time) = (seconds / DAY, seconds % DAY);
    // At most a few hundred steps in an error message: simple beats a closed formula here.
    let mut year = 1970;
    while year < 9999 && days(year + 1, 0, 1) <= number {
        year += 1;
    }
    let mut month = 11;
    while month > 0 && days(year, month, 1) > number {
        month -= 1;
    }
    let day = number - days(year, month, 1) + 1;
    let name = |names: &[&'static str], at: u64| names.get(at as usize).copied().unwrap_or_default();
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} UTC",
        name(&WEEKDAYS, number % 7),
        name(&MONTHS, month),
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; months count from 0, days from 1.
fn days(year: u64, month: u64, day: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = leaps(year) > leaps(year - 1);
    let before = BEFORE.get(month as usize).copied().unwrap_or_default() + u64::from(is_leap && month > 1);
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected seconds are GNU `date --utc --date=… +%s`.
    fn check(text: &str, seconds: u64) {
        assert_eq!(parse_date(text), Some(seconds), "{text}");
        assert_eq!(format_date(seconds), text);
    }

    #[test]
    fn reads_and_writes() {
        check("Thu, 01 Jan 1970 00:00:00 UTC", 0);
        check("Sat, 11 Jul 2026 10:16:37 UTC", 1_783_764_997);
        check("Tue, 29 Feb 2000 23:59:59 UTC", 951_868_799);
        check("Wed, 01 Mar 2000 00:00:00 UTC", 951_868_800);
        check("Sun, 31 Dec 2023 12:00:00 UTC", 1_704_024_000);
        check("Mon, 01 Mar 2100 00:00:00 UTC", 4_107_542_400);
        assert_eq!(parse_date("Thu,  1 Jan 1970 00:00:10 GMT"), Some(10));
    }

    #[test]
    fn refuses_other_forms() {
        for text in [
            "",
            "2026-07-11T10:16:37Z",
            "Sat, 11 Jul 2026 10:16:37 +0200",
            "Sat, 11 Jul 2026 25:16:37 UTC",
            "Sat, 0 Jul 2026 10:16:37 UTC",
            "Sat, 11 Juli 2026 10:16:37 UTC",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
