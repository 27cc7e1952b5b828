//! Times as people write and read them. Reads no clock.

use std::time::Duration;

/// When a value is to be sent no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Seconds since 1970.
    At(u64),
    /// Seconds from now.
    In(u64),
}

impl End {
    pub fn at(self, now_s: u64) -> u64 {
        match self {
            Self::At(second) => second,
            Self::In(seconds) => now_s.saturating_add(seconds),
        }
    }
}

/// `30m`, `8h`, `90d`.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let form = || "expected a whole number and s, m, h or d, such as 8h".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (count, unit) = text.split_at_checked(digits.len()).ok_or_else(form)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(form()),
    };
    let count: u64 = count.parse().map_err(|_| form())?;
    // The kernel counts the time of a key in 32 bits.
    let seconds = count.checked_mul(unit_s).filter(|seconds| (1..=3_650 * 86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected 1s to 3650d".to_owned())
}

/// A date, a date and time in UTC, or a span from now.
pub fn parse_end(text: &str) -> Result<End, String> {
    if let Ok(span) = parse_span(text) {
        return Ok(End::In(span.as_secs()));
    }
    let form = || "expected 2027-01-31, 2027-01-31T12:00:00Z, or a span such as 90d".to_owned();
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let time = time.strip_suffix('Z').ok_or_else(form)?;
    let [year, month, day] = numbers(date, '-').ok_or_else(form)?;
    let [hour, minute, second] = numbers(time, ':').ok_or_else(form)?;
    let fits = (1970..=9999).contains(&year) && hour < 24 && minute < 60 && second < 60;
    let days = days_since_1970(year, month, day);
    if !fits || date_of(days) != (year, month, day) {
        return Err(form());
    }
    Ok(End::At(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let is_number = |part: &&str| (2..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = text.split(between).map(|part| Some(part).filter(is_number)?.parse().ok());
    let all = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(all)
}

/// Of the proleptic Gregorian calendar, whose years begin in March here so that the leap day is the last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let from_march = (month + 9) % 12;
    let year = year - from_march / 10;
    let leap_days = year / 4 - year / 100 + year / 400;
    (365 * year + leap_days + (153 * from_march + 2) / 5 + day).saturating_sub(719_469)
}

/// The inverse, found by trying: a year has one first of January.
fn date_of(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let month = (1..=12).rev().find(|&month| days_since_1970(year, month, 1) <= days).unwrap_or(1);
    (year, month, days - days_since_1970(year, month, 1) + 1)
}

/// `2027-01-31T12:00:00Z`.
pub fn shown(second: u64) -> String {
    let ((year, month, day), rest) = (date_of(second / 86_400), second % 86_400);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown_alike() {
        for (text, second) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2024-12-31T00:00:00Z", 1_735_603_200),
            ("2038-01-19T03:14:07Z", 2_147_483_647),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse_end(text), Ok(End::At(second)), "{text}");
            assert_eq!(shown(second), text);
        }
        for day in (0..40_000).step_by(13) {
            let text = shown(day * 86_400);
            assert_eq!(parse_end(&text[..10]), Ok(End::At(day * 86_400)), "{text}");
        }
        assert_eq!(parse_end("90d").map(|end| end.at(1_000)), Ok(90 * 86_400 + 1_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in
            ["", "d", "-1d", "2027-02-29", "2027-13-01", "2027-00-10", "2027-01-00", "2027-01-01T24:00:00Z"]
        {
            assert!(parse_end(bad).is_err(), "{bad}");
        }
        for bad in
            ["2027-01-01T00:00:00", "2027-1-1", "1969-12-31", "99999999999999999999d", "0d", "2027-+1-01"]
        {
            assert!(parse_end(bad).is_err(), "{bad}");
        }
    }
}
