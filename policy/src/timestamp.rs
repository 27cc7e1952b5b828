//! RFC 3339 date-times of policy files and audit logs to seconds since 1970. No clock is read here.

/// Seconds since 1970-01-01T00:00:00Z of a date-time with an offset; fractions of a second are dropped. `None`
/// where the text is none (RFC 3339 §5.6; a space for the `T` is taken, as TOML does).
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_at_checked(10)?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let (clock, offset) = time.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let offset = without_fraction(offset)?;
    let ahead = match offset.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        ("+", rest) => offset_seconds(rest)?,
        ("-", rest) => offset_seconds(rest)?.checked_neg()?,
        _ => return None,
    };
    let fits = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    // A leap second is the second after: that is when an expiry at 23:59:60 has come.
    if !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_1970(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
    seconds.checked_sub(ahead)
}

fn offset_seconds(text: &str) -> Option<i64> {
    let [hour, minute] = numbers(text, ':', [2, 2])?;
    (hour <= 23 && minute <= 59).then_some(hour * 3_600 + minute * 60)
}

fn without_fraction(text: &str) -> Option<&str> {
    let Some(rest) = text.strip_prefix('.') else { return Some(text) };
    let end = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    (end.len() < rest.len()).then_some(end)
}

/// Exactly `N` numbers of these widths: at most four digits each, so that no sum of them can overflow.
fn numbers<const N: usize>(text: &str, between: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut values = [0; N];
    for (value, width) in values.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        *value =
            if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok()? } else { return None };
    }
    parts.next().is_none().then_some(values)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Gregorian, also before it was in use (ISO 8601).
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let before = year.checked_sub(1)?;
    let of_years = before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    let of_months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    // 719162 days lie between 0001-01-01 and 1970-01-01.
    (of_years + of_months + day - 1).checked_sub(719_162)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_times_are_seconds() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01 00:00:01z", 1),
            ("2000-02-29T12:30:45Z", 951_827_445),
            ("2026-11-25T05:00:00.123Z", 1_795_582_800),
            ("2026-11-25T07:00:00+02:00", 1_795_582_800),
            ("2026-11-24T23:30:00-05:30", 1_795_582_800),
            ("1969-12-31T23:59:60Z", 0),
            ("1900-03-01T00:00:00Z", -2_203_891_200),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_date_time() {
        for text in [
            "",
            "2026-11-25",
            "2026-11-25T05:00:00",
            "2026-11-25T05:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+0000",
            "2026-01-01T00:00:00+00:60",
            "+026-01-01T00:00:00Z",
            "2026-1-01T00:00:00Z",
            "2026-01-01X00:00:00Z",
            "2026-01-01T00:00:00Zx",
            "2026-01-01T00:00:00é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
