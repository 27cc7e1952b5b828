//! Docker's `config.json`: `auths` holds what its client sends to a registry and to the token service that it names.

use super::Login;
use crate::encode::base64_padded;

pub(super) fn render(logins: &[&Login]) -> String {
    let entry = |login: &&Login| {
        let pair = format!("{}:{}", login.user, login.placeholder);
        let auth = base64_padded(pair.as_bytes());
        format!("    \"{}\": {{ \"auth\": \"{}\" }}", login.authority(), String::from_utf8_lossy(&auth))
    };
    format!("{{\n  \"auths\": {{\n{}\n  }}\n}}\n", logins.iter().map(entry).collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::super::login;
    use super::*;

    #[test]
    fn basic_for_each_registry() {
        let text = render(&[&login("a.example", 443), &login("b.example", 5000)]);
        let pair = crate::encode::base64_decode(
            text.split("\"auth\": \"").nth(2).unwrap().split('"').next().unwrap().as_bytes(),
        );
        assert_eq!(&pair.unwrap()[..], format!("user:ghp_{}", "1".repeat(36)).as_bytes());
        assert!(
            text.contains("\"a.example\"") && text.contains("\"b.example:5000\"") && text.contains("},\n")
        );
    }
}
