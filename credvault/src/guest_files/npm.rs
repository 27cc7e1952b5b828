//! `.npmrc`: a token for a registry's URL ("Auth related configuration", npm CLI). npm wants the port in it.

use super::Login;

pub(super) fn render(logins: &[&Login]) -> String {
    let line = |login: &&Login| format!("//{}/:_authToken={}\n", login.authority(), login.placeholder);
    logins.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::login;
    use super::*;

    #[test]
    fn the_port_is_part_of_the_url() {
        let (plain, other) = (login("a.example", 443), login("a.example", 8443));
        let token = plain.placeholder.as_str();
        assert_eq!(
            render(&[&plain, &other]),
            format!("//a.example/:_authToken={token}\n//a.example:8443/:_authToken={token}\n")
        );
    }
}
