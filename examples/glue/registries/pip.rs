//! pip: `pip config list` says what its variables and files set (`index-url`, `extra-index-url`, `find-links`,
//! `no-index`); its own help says the index it was built with, and one dry run from where that index lets download.

use policy::{RegistryHost, Scheme};

use super::machine::{Machine, Output, Question, Text};
use super::{place, utf8};

const VARIABLES: [&str; 9] = [
    "PIP_CONFIG_FILE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "PIP_CERT",
    "PIP_PROXY",
    "REQUESTS_CA_BUNDLE",
    "PYENV_VERSION",
];

pub(super) fn hosts(machine: &Machine) -> Result<Vec<RegistryHost>, String> {
    let listed = match ask(machine, &["config", "list"]) {
        Ok(listed) => listed,
        // Without the client, its variable still says what the user means.
        Err(problem) => {
            let index = machine.variable("PIP_INDEX_URL").ok_or(problem)?;
            return Ok(vec![place(index)?]);
        }
    };
    let configured = configured(utf8(&listed)?)?;
    let mut hosts = configured.hosts;
    if configured.no_index {
        return Ok(hosts);
    }
    let index = match configured.index {
        Some(index) => index,
        None => default_index(utf8(&ask(machine, &["download", "--help"])?)?)?,
    };
    let own = index.scheme == Scheme::Https && !configured.has_index;
    hosts.push(index);
    // Over clear text anybody could answer. And a mirror is meant to serve the files, too.
    if own {
        hosts.push(files(&ask(machine, &DRY_RUN)?)?);
    }
    Ok(hosts)
}

/// Reads one package's page of the index, downloads its metadata at most, installs nothing.
const DRY_RUN: [&str; 9] = [
    "install",
    "--dry-run",
    "--ignore-installed",
    "--no-deps",
    "--no-input",
    "--only-binary=:all:",
    "--quiet",
    "--report=-",
    "pip",
];

fn ask(machine: &Machine, arguments: &[&str]) -> Result<Text, String> {
    // Its files, and where Python and pip themselves may be.
    let own =
        machine.home().into_iter().flat_map(|home| [".pip", ".local", ".pyenv"].map(|name| home.join(name)));
    let reads: Vec<_> = own.chain(machine.config_home().map(|folder| folder.join("pip"))).collect();
    machine.ask(&Question {
        program: if machine.has("pip3") { "pip3" } else { "pip" },
        arguments,
        variables: &VARIABLES,
        // Wide enough that its help does not break a URL into lines.
        set: &[("PIP_DISABLE_PIP_VERSION_CHECK", "1"), ("PIP_NO_COLOR", "1"), ("COLUMNS", "1000")],
        reads: &reads,
        output: Output::Plain,
    })
}

/// What `pip config list` says.
#[derive(Debug, Default, PartialEq)]
struct Configured {
    index: Option<RegistryHost>,
    has_index: bool,
    no_index: bool,
    /// Of the other keys.
    hosts: Vec<RegistryHost>,
}

/// Lines as `global.index-url='https://…'`, weakest first; the part before the point is a file's section or `:env:`.
fn configured(listed: &str) -> Result<Configured, String> {
    let mut found = Configured::default();
    for line in listed.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim().trim_matches(['\'', '"']);
        let urls = || value.split("\\n").flat_map(str::split_whitespace).filter(|text| text.contains("://"));
        match key.rsplit_once('.').map_or(key, |(_, name)| name).trim_matches('.') {
            "index-url" => (found.index, found.has_index) = (Some(place(value)?), true),
            "extra-index-url" => found.hosts.extend(urls().map(place).collect::<Result<Vec<_>, _>>()?),
            "find-links" => {
                let remote = urls().filter(|url| !url.starts_with("file:"));
                found.hosts.extend(remote.map(place).collect::<Result<Vec<_>, _>>()?);
            }
            "no-index" => found.no_index = !matches!(value, "0" | "false" | "False" | "no" | "off"),
            _ => {}
        }
    }
    Ok(found)
}

/// `… Base URL of the Python Package Index (default https://…). …`
fn default_index(help: &str) -> Result<RegistryHost, String> {
    let about = help.split("--index-url <url>").nth(1).and_then(|rest| rest.split("(default").nth(1));
    let url = about.and_then(|rest| rest.split(')').next());
    place(url.ok_or_else(|| "pip's help does not say which index it uses".to_owned())?)
}

/// The download in the report of a dry run.
fn files(report: &[u8]) -> Result<RegistryHost, String> {
    let silent = || "pip cannot say from where its index lets download (is this machine online?)".to_owned();
    let report: serde_json::Value = serde_json::from_slice(report).map_err(|_| silent())?;
    place(report.pointer("/install/0/download_info/url").and_then(|url| url.as_str()).ok_or_else(silent)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::registries::names;

    #[test]
    fn its_list_says_what_is_configured_and_later_lines_win() {
        let listed = "global.cert='/x.pem'\n\
                      global.index-url='https://user:pass@one.registry.example/simple'\n\
                      global.extra-index-url='\\nhttps://two.registry.example/\\nhttp://three.registry.example:81/'\n\
                      :env:.index-url='https://four.registry.example/simple'\n\
                      :env:.find-links='/opt/wheels https://five.registry.example/w'\n";
        let found = configured(listed).unwrap();
        assert_eq!(found.index.unwrap().host, "four.registry.example");
        let others = ["two.registry.example", "three.registry.example", "five.registry.example"];
        assert_eq!(names(&found.hosts), others);
        assert!(configured("global.no-index='1'").unwrap().no_index);
        assert!(configured("global.index-url='nonsense'").is_err());
    }

    #[test]
    fn its_help_and_its_report_are_understood() {
        let help = "  -i, --index-url <url>  Base URL of the index (default https://pip.registry.example/simple). This\n";
        assert_eq!(default_index(help).unwrap().host, "pip.registry.example");
        assert!(default_index("usage: pip").is_err());
        let report = br#"{"install": [{"download_info": {"url": "https://files.registry.example/a.whl"}}]}"#;
        assert_eq!(files(report).unwrap().host, "files.registry.example");
        assert!(files(b"").unwrap_err().contains("online"));
    }

    #[test]
    fn pip_itself_tells_what_a_file_says() {
        if !super::super::can_run("pip3", &["--version"]) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pip.conf");
        std::fs::write(&file, "[global]\nindex-url = https://me:pw@mirror.registry.example:8443/simple\n")
            .unwrap();
        let home = std::env::var("HOME").unwrap();
        let path = std::env::var("PATH").unwrap();
        let variables =
            [("PATH", path.as_str()), ("HOME", &home), ("PIP_CONFIG_FILE", file.to_str().unwrap())];
        let found = hosts(&Machine::new(&variables, Path::new("/"))).unwrap();
        assert_eq!((names(&found), found[0].port), (vec!["mirror.registry.example"], 8443));
        let unset = Machine::new(&[("PATH", &path), ("HOME", &home)], Path::new("/"));
        let help = ask(&unset, &["download", "--help"]).unwrap();
        assert_eq!(default_index(utf8(&help).unwrap()).unwrap().scheme, Scheme::Https);
    }
}
