//! An upstream's claims to be us.

use http::{HeaderMap, HeaderValue};

use super::{PROXY_NAME, PROXY_STATUS};
use crate::fields::has;

/// Removes `Proxy-Status` members that carry our name from an upstream's headers (or trailers).
pub fn strip_forged_proxy_status(headers: &mut HeaderMap) {
    if !has(headers, &PROXY_STATUS) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(&PROXY_STATUS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(|value| {
            let members = split_members(value);
            let honest: Vec<&str> = members.into_iter().filter(|member| !has_our_name(member)).collect();
            if honest.is_empty() { None } else { HeaderValue::from_str(&honest.join(", ")).ok() }
        })
        .collect();
    headers.remove(&PROXY_STATUS);
    for value in kept {
        headers.append(&PROXY_STATUS, value);
    }
}

/// Splits an RFC 8941 list at commas outside quoted strings.
fn split_members(value: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |c| {
            let splits = c == ',' && !quoted;
            match c {
                '\\' if quoted && !escaped => escaped = true,
                '"' if !escaped => quoted = !quoted,
                _ => escaped = false,
            }
            splits
        })
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .collect()
}

/// The name is a token or a quoted string; case is ignored to be stricter than the RFC.
fn has_our_name(member: &str) -> bool {
    let name = member.split(';').next().unwrap_or(member).trim().trim_matches('"');
    name.to_ascii_lowercase().replace('\\', "").contains(PROXY_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_members_of_our_name_are_removed_and_others_stay() {
        for (given, kept) in [
            ("agent-sandbox; error=x", None),
            ("\"agent-sandbox\"; error=x", None),
            ("Agent-Sandbox", None),
            ("cdn; details=\"a, agent-sandbox\"", Some("cdn; details=\"a, agent-sandbox\"")),
            ("cdn, agent-sandbox; error=x, edge", Some("cdn, edge")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(PROXY_STATUS, HeaderValue::from_static(given));
            strip_forged_proxy_status(&mut headers);
            assert_eq!(headers.get(&PROXY_STATUS).map(|v| v.to_str().unwrap()), kept, "{given}");
        }
    }
}
