//! Files that log the guest's tools in, with placeholders for passwords: pure renderers, one for each tool.
//!
//! ```text
//! Login { host, port, user, placeholder } ─┬─▶ .gitconfig            git's credential helper
//!                                          ├─▶ .netrc                curl --netrc, pip, Mercurial, wget
//!                                          ├─▶ .npmrc                npm, pnpm, yarn 1
//!                                          ├─▶ .docker/config.json   docker, podman, crane
//!                                          └─▶ .cargo/credentials.toml
//! ```
//!
//! Must never be given a secret, and never let a host or a user name end a line or a string of its file.

mod cargo;
mod docker;
mod git;
mod netrc;
mod npm;

use std::str::FromStr;

use crate::matching::{HostPattern, PatternError, is_http_token};
use crate::placeholder::Placeholder;

/// A file for the home folder of the guest's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Below the home folder, with `/` between its parts.
    pub path: &'static str,
    /// 0600, as tools insist on.
    pub mode: u32,
    /// The whole file.
    pub content: String,
}

/// A tool that reads its login from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tool {
    /// git over https.
    Git,
    /// What reads `.netrc`: curl, wget, pip and all that is built on Python's requests. The latter prefers it to a header
    /// that the program sets itself, so this is nothing for the host of an API.
    Netrc,
    /// npm, with the host as a registry.
    Npm,
    /// docker, with the host as a registry.
    Docker,
    /// cargo: the token of the registry that its configuration calls by this name; the host is not used.
    Cargo(String),
}

/// One login: what a tool says to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    host: String,
    port: u16,
    user: String,
    placeholder: Placeholder,
}

/// Why a login or a tool cannot be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The host.
    #[error(transparent)]
    Host(#[from] PatternError),
    /// A pattern of hosts.
    #[error("a login is for one host: name it, without `*`")]
    Pattern,
    /// The user name.
    #[error("a user name in a file of logins has letters, digits and `-_.` only")]
    User,
    /// The tool.
    #[error("tool is not known: use git, netrc, npm, docker or cargo:REGISTRY")]
    Tool,
}

impl Login {
    /// For `host` (canonical) and `port`; `user` is the name beside the placeholder, where the tool wants one.
    ///
    /// # Errors
    /// [`LoginError`], if one of them does not fit into every file.
    pub fn new(host: &str, port: u16, user: &str, placeholder: &Placeholder) -> Result<Self, LoginError> {
        host.parse::<HostPattern>()?;
        if host.contains('*') {
            return Err(LoginError::Pattern);
        }
        if !is_word(user) {
            return Err(LoginError::User);
        }
        let (host, user) = (host.to_owned(), user.to_owned());
        Ok(Self { host, port, user, placeholder: placeholder.clone() })
    }

    /// As in a URL, without the port of https.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

fn is_word(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

impl FromStr for Tool {
    type Err = LoginError;

    fn from_str(text: &str) -> Result<Self, LoginError> {
        match text {
            "git" => Ok(Self::Git),
            "netrc" => Ok(Self::Netrc),
            "npm" => Ok(Self::Npm),
            "docker" => Ok(Self::Docker),
            _ => match text.strip_prefix("cargo:") {
                // A bare key of TOML, and the part of a variable's name.
                Some(name) if is_http_token(name) && is_word(name) && !name.contains('.') => {
                    Ok(Self::Cargo(name.to_owned()))
                }
                _ => Err(LoginError::Tool),
            },
        }
    }
}

/// The files for these logins; a file that no tool asks for is not there.
///
/// ```
/// use credvault::{Login, PlaceholderFormat, Tool, guest_files, os_random};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let placeholder = PlaceholderFormat::generic().mint(&mut os_random)?;
/// let login = Login::new("git.example.com", 443, "x-access-token", &placeholder)?;
/// let files = guest_files(&[(Tool::Git, login)]);
/// assert_eq!(files[0].path, ".gitconfig");
/// assert!(files[0].content.contains(placeholder.as_str()));
/// # Ok(()) }
/// ```
#[must_use]
pub fn guest_files(logins: &[(Tool, Login)]) -> Vec<GuestFile> {
    let of = |wanted: &Tool| -> Vec<&Login> {
        logins.iter().filter(|(tool, _)| tool == wanted).map(|(_, login)| login).collect()
    };
    let registries: Vec<(&str, &Login)> = logins
        .iter()
        .filter_map(|(tool, login)| match tool {
            Tool::Cargo(name) => Some((name.as_str(), login)),
            _ => None,
        })
        .collect();
    let files: [(&'static str, Option<String>); 5] = [
        (".gitconfig", text(&of(&Tool::Git), git::render)),
        (".netrc", text(&of(&Tool::Netrc), netrc::render)),
        (".npmrc", text(&of(&Tool::Npm), npm::render)),
        (".docker/config.json", text(&of(&Tool::Docker), docker::render)),
        (".cargo/credentials.toml", text(&registries, cargo::render)),
    ];
    let file = |(path, content): (&'static str, Option<String>)| {
        content.map(|content| GuestFile { path, mode: 0o600, content })
    };
    files.into_iter().filter_map(file).collect()
}

fn text<T>(logins: &[T], render: impl Fn(&[T]) -> String) -> Option<String> {
    if logins.is_empty() { None } else { Some(render(logins)) }
}

#[cfg(test)]
pub(crate) fn login(host: &str, port: u16) -> Login {
    let format: crate::PlaceholderFormat = "ghp_{36:digit}".parse().unwrap();
    let placeholder = format.mint(&mut |buf: &mut [u8]| {
        buf.fill(1);
        Ok(())
    });
    Login::new(host, port, "user", &placeholder.unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_there_for_the_tools_that_were_asked_for() {
        assert!(guest_files(&[]).is_empty());
        let tools = ["git", "netrc", "npm", "docker", "cargo:ours"].map(|tool| tool.parse::<Tool>().unwrap());
        let logins = tools.map(|tool| (tool, login("a.example", 443)));
        let files = guest_files(&logins);
        let paths = files.iter().map(|file| file.path).collect::<Vec<_>>();
        assert_eq!(
            paths,
            [".gitconfig", ".netrc", ".npmrc", ".docker/config.json", ".cargo/credentials.toml"]
        );
        assert!(files.iter().all(|file| file.mode == 0o600 && file.content.ends_with('\n')));
        assert_eq!(guest_files(&logins[1..2])[0].path, ".netrc");
    }

    #[test]
    fn what_could_end_a_line_or_a_string_is_refused() {
        let placeholder = login("a.example", 443).placeholder;
        let new = |host: &str, user: &str| Login::new(host, 443, user, &placeholder).map(|_| ());
        for host in ["a.example\nmachine b.example", "A.example", "a\"b", "", "a.example:1"] {
            assert!(matches!(new(host, "user"), Err(LoginError::Host(_))), "{host:?}");
        }
        assert_eq!(new("*.a.example", "user"), Err(LoginError::Pattern));
        for user in ["", "a b", "a\n", "a:b", "a'b", "a\\"] {
            assert_eq!(new("a.example", user), Err(LoginError::User), "{user:?}");
        }
        for tool in ["", "svn", "cargo", "cargo:", "cargo:a.b", "cargo:a]\n", "git "] {
            assert_eq!(tool.parse::<Tool>(), Err(LoginError::Tool), "{tool:?}");
        }
    }
}
