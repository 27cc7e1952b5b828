//! What the guest may ask a token server for, where the host keeps what is answered: new tokens for the login that it
//! has, and nothing else. The answer to any other grant would put somebody else's login in the place of the user's.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Whether `body` is one request to renew (RFC 6749 §6) with `placeholder`, in a form or in JSON, that cannot be read in
/// another way.
pub fn asks_to_renew(body: &[u8], placeholder: &str) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    match text.trim_ascii_start().starts_with('{') {
        true => in_json(text, placeholder),
        false => in_form(text, placeholder),
    }
}

fn in_json(text: &str, placeholder: &str) -> bool {
    // A key that is there twice is an error.
    #[derive(Deserialize)]
    struct Renewal {
        grant_type: String,
        refresh_token: String,
    }
    let Ok(renewal) = serde_json::from_str::<Renewal>(text) else { return false };
    let Ok(all) = serde_json::from_str::<Map<String, Value>>(text) else { return false };
    let once = |name: &str| all.keys().filter(|key| key.eq_ignore_ascii_case(name)).count() == 1;
    renewal.grant_type == "refresh_token"
        && renewal.refresh_token == placeholder
        && once("grant_type")
        && once("refresh_token")
}

/// Keys are plain: one that is encoded is a second way to write another. `;` separates pairs for old servers.
fn in_form(text: &str, placeholder: &str) -> bool {
    let is_plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let pairs: Option<Vec<(&str, &str)>> = text.split('&').map(|pair| pair.split_once('=')).collect();
    let Some(pairs) = pairs else { return false };
    let only = |name: &str, wanted: &str| {
        let mut values = pairs.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.next().is_some_and(|(_, value)| *value == wanted) && values.next().is_none()
    };
    !text.contains(';')
        && pairs.iter().all(|(key, _)| is_plain(key))
        && only("grant_type", "refresh_token")
        && only("refresh_token", placeholder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sandboxs_own_login_is_renewed() {
        for good in [
            "grant_type=refresh_token&refresh_token=P",
            "client_id=a%20b&refresh_token=P&grant_type=refresh_token&scope=x+y",
            r#"{"grant_type":"refresh_token","refresh_token":"P","client_id":"c"}"#,
            " {\n \"refresh_token\": \"P\", \"grant_type\": \"refresh_token\" }",
        ] {
            assert!(asks_to_renew(good.as_bytes(), "P"), "{good}");
        }
        for bad in [
            "",
            "grant_type=refresh_token",
            "grant_type=refresh_token&refresh_token=THEIRS",
            "grant_type=refresh_token&refresh_token=THEIRS&x=P",
            "grant_type=refresh_token&refresh_token=P&refresh_token=THEIRS",
            "grant_type=refresh_token&refresh_token=P&refresh%5Ftoken=THEIRS",
            "grant_type=refresh_token&refresh_token=P&Refresh_Token=THEIRS",
            "grant_type=refresh_token&refresh_token=P&refresh_token[]=THEIRS",
            "grant_type=refresh_token&refresh_token=P&x=1;refresh_token=THEIRS",
            "grant_type=authorization_code&code=THEIRS",
            "grant_type=refresh_token&grant_type=authorization_code&refresh_token=P",
            r#"{"grant_type":"refresh_token","refresh_token":"P","refresh_token":"THEIRS"}"#,
            r#"{"grant_type":"refresh_token","refresh_token":"P","refresh\u005ftoken":"THEIRS"}"#,
            r#"{"grant_type":"refresh_token","refresh_token":"P","Refresh_token":"THEIRS"}"#,
            r#"{"grant_type":"refresh_token","refresh_token":"P"} {"refresh_token":"THEIRS"}"#,
            r#"[{"grant_type":"refresh_token","refresh_token":"P"}]"#,
        ] {
            assert!(!asks_to_renew(bad.as_bytes(), "P"), "{bad}");
        }
    }
}
