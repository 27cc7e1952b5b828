//! An upstream's claims to be us.

use http::{HeaderMap, HeaderValue};

use super::{PROXY_NAME, PROXY_STATUS};
use crate::fields::has;

/// Removes `Proxy-Status` members that carry our name from an upstream's headers (or trailers).
pub fn strip_forged_proxy_status(headers: &mut HeaderMap) {
    if !has(headers, &PROXY_STATUS) {
        return;
    }
    // The lines are one list (RFC 8941 §4.2): a quoted string may begin in one and end in the next.
    let lines: Vec<&str> =
        headers.get_all(&PROXY_STATUS).iter().filter_map(|value| value.to_str().ok()).collect();
    let whole = lines.join(", ");
    let members = split_members(&whole).unwrap_or_default();
    let honest: Vec<&str> = members.into_iter().filter(|member| !has_our_name(member)).collect();
    let kept = HeaderValue::from_str(&honest.join(", "));
    headers.remove(&PROXY_STATUS);
    if let (false, Ok(kept)) = (honest.is_empty(), kept) {
        headers.insert(PROXY_STATUS, kept);
    }
}

/// Splits an RFC 8941 list at commas outside quoted strings. `None` where such a string has no end: then it is no list,
/// and whoever splits it otherwise may find our name in it.
fn split_members(value: &str) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped) = (false, false);
    let members = value
        .split(|c| {
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
        .collect();
    (!quoted).then_some(members)
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
            (&["agent-sandbox; error=x"][..], None),
            (&["\"agent-sandbox\"; error=x"], None),
            (&["Agent-Sandbox"], None),
            (&["cdn; details=\"a, agent-sandbox\""], Some("cdn; details=\"a, agent-sandbox\"")),
            (&["cdn, agent-sandbox; error=x, edge"], Some("cdn, edge")),
            (&["cdn", "agent-sandbox; error=x", "edge"], Some("cdn, edge")),
            (&["cdn; details=\"a", "b\"; x, agent-sandbox; error=x"], Some("cdn; details=\"a, b\"; x")),
            (&["cdn; details=\"a", "agent-sandbox; error=x"], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in given {
                headers.append(PROXY_STATUS, HeaderValue::from_static(line));
            }
            strip_forged_proxy_status(&mut headers);
            let left: Vec<_> = headers.get_all(&PROXY_STATUS).iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(left, Vec::from_iter(kept), "{given:?}");
        }
    }
}
