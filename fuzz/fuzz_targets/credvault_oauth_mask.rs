//! What a guest sees of a token server's answer: JSON of the same shape, in which no token is found again, neither as it
//! was nor unescaped, nothing that stands below a name which says that it is secret, and all else as it was.

#![no_main]

use credvault::{Placeholder, PlaceholderFormat, Secret, TokenLooks, mask_token_answer, os_random};
use fuzz::contains;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Of fields that say how, not what.
const OPEN: [&str; 4] = ["token_type", "issued_token_type", "expires_in", "refresh_token_expires_in"];

fuzz_target!(|body: &[u8]| {
    let access = placeholder("acc-{32:alnum}");
    let refresh = placeholder("ref-{32:alnum}");
    let looks = TokenLooks { access: &access, refresh: &refresh };
    let Ok(masked) = mask_token_answer(1_000, (200, body), looks, &mut os_random) else { return };
    let shown = format!("{} as {}", body.escape_ascii(), masked.body.escape_ascii());

    let Ok(after) = serde_json::from_slice::<Value>(&masked.body) else {
        // The answer's own number, too large for it.
        return assert!(serde_json::from_slice::<Value>(body).is_err(), "{shown}");
    };
    let tokens = [Some(&masked.token.access), masked.token.refresh.as_ref()];
    for token in tokens.into_iter().flatten().map(Secret::expose) {
        assert!(!contains(&masked.body, token), "{shown}");
        assert!(strings(&after).iter().all(|text| !contains(text.as_bytes(), token)), "{shown}");
    }
    assert!(after.get("refresh_token").is_none_or(|value| value == refresh.as_str()), "{shown}");
    let seen = after.get("access_token").or(after.get("token"));
    assert_eq!(seen.and_then(Value::as_str), Some(access.as_str()), "{shown}");

    let before: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        // A number that is none for it.
        Err(_) => return,
    };
    let mut secrets = Vec::new();
    for token in tokens.into_iter().flatten() {
        secrets.push(token.expose());
    }
    compare(&before, &after, false, &secrets, &shown);
});

/// Both readings of the same place.
fn compare(before: &Value, after: &Value, is_secret: bool, tokens: &[&[u8]], shown: &str) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            assert!(before.keys().eq(after.keys()), "{shown}");
            for (name, value) in before {
                let lower = name.to_ascii_lowercase();
                let says = ["token", "secret", "assertion", "key"].iter().any(|word| lower.contains(word));
                let is_nested = value.is_object() || value.is_array();
                let below = match OPEN.contains(&lower.as_str()) {
                    true => is_secret && is_nested,
                    false => is_secret || says,
                };
                compare(value, &after[name], below, tokens, shown);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{shown}");
            before.iter().zip(after).for_each(|(b, a)| compare(b, a, is_secret, tokens, shown));
        }
        (Value::String(_) | Value::Number(_), _) if is_secret => {
            assert!(after.is_string() && after != before, "{shown}");
        }
        (Value::String(text), _) if tokens.iter().any(|token| contains(text.as_bytes(), token)) => {
            assert!(after.is_string() && after != before, "{shown}");
        }
        _ => assert_eq!(before, after, "{shown}"),
    }
}

fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(strings).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| std::iter::once(name.as_str()).chain(strings(value)))
            .collect(),
        _ => Vec::new(),
    }
}

fn placeholder(format: &str) -> Placeholder {
    let format: PlaceholderFormat = format.parse().expect("a format");
    format.mint(&mut os_random).expect("randomness")
}
