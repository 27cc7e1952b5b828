//! cargo's `credentials.toml`: the value is the whole `Authorization` header ("Registry Authentication", Cargo Book).

use super::Login;

pub(super) fn render(registries: &[(&str, &Login)]) -> String {
    let section = |(name, login): &(&str, &Login)| {
        format!("[registries.{name}]\ntoken = \"Bearer {}\"\n", login.placeholder)
    };
    // A registry has one login; a table that is there twice is none to cargo.
    let is_first =
        |at: usize, name: &str| registries.iter().position(|(other, _)| *other == name) == Some(at);
    let firsts = registries.iter().enumerate().filter(|(at, (name, _))| is_first(*at, name));
    firsts.map(|(_, registry)| section(registry)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::login;
    use super::*;

    #[test]
    fn it_is_toml_with_a_header_for_each_registry() {
        let one = login("a.example", 443);
        let table: toml::Table = render(&[("ours", &one), ("x-2", &one), ("ours", &one)]).parse().unwrap();
        for name in ["ours", "x-2"] {
            let token = table["registries"][name]["token"].as_str().unwrap();
            assert_eq!(token, format!("Bearer {}", one.placeholder));
        }
    }
}
