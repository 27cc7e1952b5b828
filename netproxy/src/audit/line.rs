//! A record as JSON. Every request pays for one, so it is written straight out: names are constants, and text is copied
//! where nothing in it needs an escape.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Record;
use crate::hooks::Scheme;

/// Most lines are shorter.
const USUAL_BYTES: usize = 768;

/// A comma and a name.
macro_rules! name {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// Appends the record, without a line feed. What is not known is left out, and that there were no redactions and no
/// WebSocket: every byte of a line costs time and room.
pub(super) fn push(line: &mut Vec<u8>, record: &Record) {
    // All fields by name: a new one does not compile until it is written, too.
    let Record {
        v,
        time,
        sandbox,
        decision_id,
        layer,
        verdict,
        rule,
        error,
        reason,
        scheme,
        host,
        port,
        method,
        path,
        status,
        bytes_up,
        bytes_down,
        ms_total,
        ms_dns,
        ms_connect,
        ms_tls,
        ms_first_byte,
        credential,
        redactions,
        generation,
        websocket,
    } = record;
    line.reserve(USUAL_BYTES);
    let mut line = Line(line);
    line.raw("{\"v\":");
    line.number(*v);
    line.raw(name!("time"));
    line.time(*time);
    line.known(name!("sandbox"), sandbox.as_deref(), Line::text);
    line.raw(name!("decision_id"));
    line.word(decision_id.as_str());
    line.raw(name!("layer"));
    line.word(layer.as_str());
    line.raw(name!("verdict"));
    line.word(verdict.as_str());
    line.known(name!("rule"), rule.as_deref(), Line::text);
    line.known(name!("error"), *error, Line::word);
    line.known(name!("reason"), reason.as_deref(), Line::text);
    line.known(name!("scheme"), scheme.map(Scheme::as_str), Line::word);
    line.known(name!("host"), host.as_deref(), Line::text);
    line.known(name!("port"), *port, Line::number);
    line.known(name!("method"), method.as_deref(), Line::text);
    line.known(name!("path"), path.as_deref(), Line::text);
    line.known(name!("status"), *status, Line::number);
    line.raw(name!("bytes_up"));
    line.number(*bytes_up);
    line.raw(name!("bytes_down"));
    line.number(*bytes_down);
    line.raw(name!("ms_total"));
    line.milliseconds(*ms_total);
    line.known(name!("ms_dns"), *ms_dns, Line::milliseconds);
    line.known(name!("ms_connect"), *ms_connect, Line::milliseconds);
    line.known(name!("ms_tls"), *ms_tls, Line::milliseconds);
    line.known(name!("ms_first_byte"), *ms_first_byte, Line::milliseconds);
    line.known(name!("credential"), credential.as_deref(), Line::text);
    line.known(name!("redactions"), (*redactions > 0).then_some(*redactions), Line::number);
    line.known(name!("generation"), *generation, Line::number);
    if *websocket {
        line.raw(concat!(name!("websocket"), "true"));
    }
    line.raw("}");
}

struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn known<T>(&mut self, name: &'static str, value: Option<T>, push: impl FnOnce(&mut Self, T)) {
        if let Some(value) = value {
            self.raw(name);
            push(self, value);
        }
    }

    /// A text that has nothing to escape.
    fn word(&mut self, text: &str) {
        self.0.push(b'"');
        self.raw(text);
        self.0.push(b'"');
    }

    fn text(&mut self, text: &str) {
        // All are looked at, which is done many at a time.
        if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
            self.word(text);
        } else {
            // Writing text to memory does not fail.
            serde_json::to_writer(&mut *self.0, text).unwrap_or_default();
        }
    }

    fn number(&mut self, number: impl itoa::Integer) {
        self.raw(itoa::Buffer::new().format(number));
    }

    /// To the microsecond. `as` ends at the type's limits, and makes 0 of what is no number.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "said above")]
    fn milliseconds(&mut self, milliseconds: f64) {
        let microseconds = (milliseconds * 1e3).round() as u64;
        self.number(microseconds / 1000);
        let [_, digits @ ..] = digits::<4>(microseconds % 1000);
        let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        let shown = digits.len().saturating_sub(zeros).max(1);
        self.0.push(b'.');
        self.0.extend_from_slice(digits.get(..shown).unwrap_or_default());
    }

    /// As RFC 3339 writes it, in UTC, in milliseconds; for times before 1970, that.
    fn time(&mut self, time: SystemTime) {
        self.0.extend_from_slice(&rfc3339(time.duration_since(UNIX_EPOCH).unwrap_or_default()));
    }
}

/// What JSON need not escape (RFC 8259 §7).
fn is_plain(byte: u8) -> bool {
    (byte >= b' ') & (byte != b'"') & (byte != b'\\')
}

/// The last `N` decimal digits.
fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' | u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    digits
}

/// A time since 1970, with quotes. Days by Howard Hinnant's `civil_from_days`.
fn rfc3339(since: Duration) -> [u8; 26] {
    let seconds = since.as_secs();
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let [y0, y1, y2, y3] = digits(year.min(9999));
    let ([mo0, mo1], [d0, d1]) = (digits(month), digits(day));
    let ([h0, h1], [mi0, mi1]) = (digits(second_of_day / 3600), digits(second_of_day / 60 % 60));
    let ([s0, s1], [f0, f1, f2]) = (digits(second_of_day % 60), digits(u64::from(since.subsec_millis())));
    [
        b'"', y0, y1, y2, y3, b'-', mo0, mo1, b'-', d0, d1, b'T', h0, h1, b':', mi0, mi1, b':', s0, s1, b'.',
        f0, f1, f2, b'Z', b'"',
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::{Layer, Outcome, audit_json_line, milliseconds, push_audit_json_line};
    use crate::id::DecisionId;

    fn record() -> Record {
        Record::new(UNIX_EPOCH, DecisionId::new(0, [0; 10]), Layer::Http, Outcome::Deny)
    }

    #[test]
    fn times_are_rfc3339_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_570_704_987, "2026-11-25T01:38:24.987Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            let quoted = rfc3339(Duration::from_millis(ms));
            assert_eq!(std::str::from_utf8(&quoted).unwrap(), format!("{text:?}"));
        }
    }

    #[test]
    fn milliseconds_are_numbers_to_the_microsecond() {
        for (ms, text) in [
            (0.0, "0.0"),
            (0.001, "0.001"),
            (0.0004, "0.0"),
            (12.34, "12.34"),
            (1.25, "1.25"),
            (100.0, "100.0"),
            (milliseconds(Duration::from_nanos(1_234_567_890)), "1234.568"),
            (-1.0, "0.0"),
            (f64::NAN, "0.0"),
        ] {
            let mut line = Vec::new();
            Line(&mut line).milliseconds(ms);
            assert_eq!(String::from_utf8(line).unwrap(), text, "{ms}");
        }
    }

    #[test]
    fn what_is_known_is_there_and_what_is_not_is_left_out() {
        let id = DecisionId::new(0, [0; 10]);
        let nothing = json!({
            "v": 1, "time": "1970-01-01T00:00:00.000Z", "decision_id": id.as_str(), "layer": "http",
            "verdict": "deny", "bytes_up": 0, "bytes_down": 0, "ms_total": 0.0
        });
        let read = |record: &Record| -> serde_json::Value {
            serde_json::from_str(&audit_json_line(record)).unwrap()
        };
        assert_eq!(read(&record()), nothing);
        let all = Record {
            v: 1,
            time: UNIX_EPOCH + Duration::from_millis(1_795_570_704_987),
            sandbox: Some("box".into()),
            decision_id: id.clone(),
            layer: Layer::Upstream,
            verdict: Outcome::WouldDeny,
            rule: Some("models".into()),
            error: Some("upstream_timeout"),
            reason: Some("why".to_owned()),
            scheme: Some(Scheme::Https),
            host: Some("a.example".into()),
            port: Some(443),
            method: Some("GET".into()),
            path: Some("/x".into()),
            status: Some(200),
            bytes_up: 1,
            bytes_down: u64::MAX,
            ms_total: 5.5,
            ms_dns: Some(1.0),
            ms_connect: Some(2.0),
            ms_tls: Some(3.0),
            ms_first_byte: Some(4.125),
            credential: Some("KEY".into()),
            redactions: 2,
            generation: Some(3),
            websocket: true,
        };
        let everything = json!({
            "v": 1, "time": "2026-11-25T01:38:24.987Z", "sandbox": "box", "decision_id": id.as_str(),
            "layer": "upstream", "verdict": "would_deny", "rule": "models", "error": "upstream_timeout",
            "reason": "why", "scheme": "https", "host": "a.example", "port": 443, "method": "GET", "path": "/x",
            "status": 200, "bytes_up": 1, "bytes_down": u64::MAX, "ms_total": 5.5, "ms_dns": 1.0,
            "ms_connect": 2.0, "ms_tls": 3.0, "ms_first_byte": 4.125, "credential": "KEY", "redactions": 2,
            "generation": 3, "websocket": true
        });
        assert_eq!(read(&all), everything);
    }

    /// Whoever chooses a path or a name writes no line and no field of their own.
    #[test]
    fn any_text_stays_one_value_on_one_line() {
        let all: String = (0..=0x7f_u8).map(char::from).chain("é\u{2028}\u{1f600}".chars()).collect();
        for text in [all.as_str(), "/a\nb", "\",\"verdict\":\"allow", "\\", "\u{0}", "\u{1f}", "\"", ""] {
            let mut record = record();
            record.path = Some(text.into());
            record.reason = Some(text.to_owned());
            let mut lines = b"before\n".to_vec();
            push_audit_json_line(&mut lines, &record);
            let lines = String::from_utf8(lines).unwrap();
            let [_, line, ""] = lines.split('\n').collect::<Vec<_>>()[..] else { panic!("{lines}") };
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((&value["path"], &value["reason"]), (&json!(text), &json!(text)));
            assert_eq!(value["verdict"], "deny");
        }
    }
}
