//! What a token server answers (RFC 6749 §5, and GitHub's own form).

use std::borrow::Cow;

use zeroize::Zeroize;

use super::OAuthError;
use crate::limits::{
    SECRET_BYTES_MAX, SECRET_BYTES_MIN, TOKEN_ANSWER_BYTES_MAX, TOKEN_LIFE_S, TOKEN_LIFE_S_MAX,
};
use crate::secret::Secret;

/// A token, and when it ends.
pub struct Token {
    /// For requests to the service.
    pub access: Secret,
    /// Seconds since 1970.
    pub not_after_s: u64,
    /// Replaces the one that was used: store it, or the grant is lost with this process.
    pub refresh: Option<Secret>,
}

#[derive(serde::Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, alias = "token")]
    access_token: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    refresh_token: Option<Cow<'a, str>>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(borrow, default)]
    expires_at: Option<Cow<'a, str>>,
}

/// What serde had to unescape.
impl Drop for Fields<'_> {
    fn drop(&mut self) {
        for token in [&mut self.access_token, &mut self.refresh_token].into_iter().flatten() {
            if let Cow::Owned(text) = token {
                text.zeroize();
            }
        }
    }
}

pub(super) fn read(now_s: u64, status: u16, body: &[u8]) -> Result<Token, OAuthError> {
    if !(200..300).contains(&status) {
        return Err(OAuthError::Refused { status, code: code(body) });
    }
    if body.len() > TOKEN_ANSWER_BYTES_MAX {
        return Err(OAuthError::Answer);
    }
    let fields: Fields<'_> = serde_json::from_slice(body).map_err(|_| OAuthError::Answer)?;
    // RFC 6749 §5.2 wants 400 for it; some servers answer 200.
    let access = match fields.access_token.as_deref() {
        Some(text) => secret(text)?,
        None => return Err(OAuthError::Refused { status, code: code(body) }),
    };
    let refresh = fields.refresh_token.as_deref().map(secret).transpose()?;
    let ends = match (&fields.expires_at, fields.expires_in) {
        (Some(text), _) => seconds(text).ok_or(OAuthError::Answer)?,
        (None, life) => now_s.saturating_add(life.unwrap_or(TOKEN_LIFE_S)),
    };
    Ok(Token { access, refresh, not_after_s: ends.min(now_s.saturating_add(TOKEN_LIFE_S_MAX)) })
}

/// One that can be sent in a header (RFC 6749 §A.12: visible ASCII).
fn secret(text: &str) -> Result<Secret, OAuthError> {
    let is_good = (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_good { Ok(Secret::new(text.as_bytes().to_vec())) } else { Err(OAuthError::Answer) }
}

/// The error's code, if it looks like one.
fn code(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow)]
        error: Cow<'a, str>,
    }
    let body = body.get(..body.len().min(TOKEN_ANSWER_BYTES_MAX)).unwrap_or_default();
    let refusal = serde_json::from_slice::<Refusal<'_>>(body).ok();
    let is_code = |text: &str| text.len() <= 40 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    refusal
        .map(|refusal| refusal.error.into_owned())
        .filter(|text| is_code(text))
        .unwrap_or_else(|| "none".to_owned())
}

/// `2026-01-31T12:00:00Z` (RFC 3339 in UTC, whole seconds) as seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: &str, digits: usize| {
        let is_number = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        if is_number { text.parse::<u64>().ok() } else { None }
    };
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (number(date.next()?, 4)?, number(date.next()?, 2)?, number(date.next()?, 2)?);
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) =
        (number(time.next()?, 2)?, number(time.next()?, 2)?, number(time.next()?, 2)?);
    let is_time = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_time || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years begin in March, so that the leap day is their last ("days_from_civil", H. Hinnant).
    let (year, month) =
        if month > 2 { (year, month.checked_sub(3)?) } else { (year.checked_sub(1)?, month.checked_add(9)?) };
    let day_of_year =
        month.checked_mul(153)?.checked_add(2)?.checked_div(5)?.checked_add(day)?.checked_sub(1)?;
    let days =
        year.checked_mul(365)?.checked_add(year / 4)?.checked_sub(year / 100)?.checked_add(year / 400)?;
    let days = days.checked_add(day_of_year)?.checked_sub(719_468)?;
    days.checked_mul(86_400)?
        .checked_add(hour.checked_mul(3600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_calendar_has_them() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T23:59:59Z", Some(951_868_799)),
            ("2016-07-11T22:14:10Z", Some(1_468_275_250)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("2016-07-11T22:14:10+02:00", None),
            ("2016-13-11T22:14:10Z", None),
            ("2016-7-11T22:14:10Z", None),
            ("+016-07-11T22:14:10Z", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
