//! git's credential helper (gitcredentials(7)), inside its configuration, for one URL each: nothing has to be on `PATH`.

use super::Login;

pub(super) fn render(logins: &[&Login]) -> String {
    let section = |login: &&Login| {
        // The empty helper forgets those that another file named: they might ask a person.
        format!(
            "[credential \"https://{}\"]\n\thelper =\n\thelper = \"!f() {{ test \\\"$1\\\" = get && printf \
             'username=%s\\\\npassword=%s\\\\n' '{}' '{}'; }}; f\"\n",
            login.authority(),
            login.user,
            login.placeholder
        )
    };
    logins.iter().map(section).collect()
}

#[cfg(test)]
mod tests {
    use super::super::login;
    use super::*;

    #[test]
    fn git_reads_it_and_asks_the_helper_for_its_own_host_only() {
        use std::io::Write as _;

        let folder = tempfile::tempdir().unwrap();
        let logins = [login("git.example", 443), login("other.example", 8443)];
        std::fs::write(folder.path().join(".gitconfig"), render(&[&logins[0], &logins[1]])).unwrap();
        let fill = |host: &str| {
            let script = format!("printf 'protocol=https\\nhost={host}\\n\\n' | git credential fill 2>&1");
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &script]).env("HOME", folder.path()).env("GIT_TERMINAL_PROMPT", "0");
            shell.env("GIT_CONFIG_NOSYSTEM", "1").env_remove("GIT_ASKPASS").env_remove("XDG_CONFIG_HOME");
            String::from_utf8(shell.output().unwrap().stdout).unwrap()
        };
        if std::process::Command::new("git").arg("--version").output().is_err() {
            let _ = writeln!(std::io::stdout(), "\nSKIPPED: git_reads_it…: git is not installed");
            return;
        }
        let expected = format!("username=user\npassword={}\n", logins[0].placeholder);
        for host in ["git.example", "other.example:8443"] {
            assert!(fill(host).contains(&expected), "{host}: {}", fill(host));
        }
        for host in ["other.example", "git.example:8443", "evil.example"] {
            assert!(!fill(host).contains("password="), "{host}: {}", fill(host));
        }
    }
}
