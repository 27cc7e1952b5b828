//! `.netrc` (curl's and GNU inetutils' form). It knows no ports.

use super::Login;

pub(super) fn render(logins: &[&Login]) -> String {
    let line = |login: &&Login| {
        format!("machine {} login {} password {}\n", login.host, login.user, login.placeholder)
    };
    logins.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::login;
    use super::*;

    #[test]
    fn one_line_for_each() {
        let one = login("a.example", 8443);
        let expected = format!("machine a.example login user password {}\n", one.placeholder);
        assert_eq!(render(&[&one, &one]), expected.repeat(2));
    }
}
