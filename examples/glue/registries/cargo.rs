//! cargo: `config.toml` in `CARGO_HOME` (replaced sources and other registries). Without a replacement cargo is asked
//! for the index that it was built with, which it tells when its way there leads nowhere. From where an index lets
//! download stands in its `config.json`: in cargo's cache, or fetched once by cargo into a folder of its own.
//!
//! Configurations of the current directory are not read: a sandbox may write them.

use std::fs;
use std::path::{Path, PathBuf};

use policy::{RegistryHost, Scheme};
use toml::de::{DeTable, DeValue};

use super::machine::{Machine, Output, Question, Text};
use super::{place, utf8};

/// How many sources may stand in for each other.
const REPLACEMENTS_MAX: usize = 8;
/// Needs one package of the index; which one does not matter.
const PROJECT: &str = "[workspace]\n[package]\nname = \"probe\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
    [dependencies]\ncfg-if = \"1\"\n";

pub(super) fn hosts(machine: &Machine) -> Result<Vec<RegistryHost>, String> {
    let home =
        machine.variable("CARGO_HOME").map(PathBuf::from).or_else(|| Some(machine.home()?.join(".cargo")));
    let home = home.ok_or("neither CARGO_HOME nor HOME is set")?;
    let config = match machine.read(&home.join("config.toml"))? {
        Some(config) => Some(config),
        None => machine.read(&home.join("config"))?,
    };
    let configured = match &config {
        Some(text) => configured(utf8(text)?)?,
        None => Configured::default(),
    };
    let mut hosts = Vec::new();
    let indexes = configured.indexes;
    for index in indexes {
        hosts.extend(downloads(machine, &home, &index)?);
        hosts.push(index);
    }
    if !configured.replaced {
        hosts.extend(own_default(machine, &home)?);
    }
    Ok(hosts)
}

#[derive(Debug, Default, PartialEq)]
struct Configured {
    indexes: Vec<RegistryHost>,
    /// The default index is not used.
    replaced: bool,
}

fn configured(text: &str) -> Result<Configured, String> {
    let table = DeTable::parse(text).map_err(|_| "cargo's config.toml is not TOML".to_owned())?;
    let table = table.get_ref();
    let mut found = Configured::default();
    for (_, registry) in below(table, "registries").into_iter().flat_map(|registries| registries.iter()) {
        if let Some(index) = registry.get_ref().as_table().and_then(|registry| text_of(registry, "index")) {
            found.indexes.push(index_at(index)?);
        }
    }
    let Some(sources) = below(table, "source") else { return Ok(found) };
    let mut name = "crates-io";
    for _ in 0..REPLACEMENTS_MAX {
        let Some(source) = below(sources, name) else { break };
        if let Some(index) = text_of(source, "registry").filter(|_| text_of(source, "replace-with").is_none())
        {
            found.indexes.push(index_at(index)?);
        }
        let Some(next) = text_of(source, "replace-with") else { break };
        (name, found.replaced) = (next, true);
    }
    Ok(found)
}

/// `sparse+https://…`, or the URL of a git repository.
fn index_at(index: &str) -> Result<RegistryHost, String> {
    place(index.strip_prefix("sparse+").unwrap_or(index))
}

/// What cargo's cache knows about an index that was used before. The `api` beside it is for publishing and stays out.
fn downloads(machine: &Machine, home: &Path, index: &RegistryHost) -> Result<Vec<RegistryHost>, String> {
    let folders = fs::read_dir(home.join("registry/index")).into_iter().flatten().flatten();
    let prefix = format!("{}-", index.host);
    let mut hosts = Vec::new();
    for folder in folders.filter(|folder| folder.file_name().to_string_lossy().starts_with(&prefix)) {
        if let Some(config) = machine.read(&folder.path().join("config.json"))? {
            hosts.push(download(&config)?);
        }
    }
    Ok(hosts)
}

fn download(config: &[u8]) -> Result<RegistryHost, String> {
    let config: serde_json::Value =
        serde_json::from_slice(config).map_err(|_| "config.json of an index is not JSON".to_owned())?;
    place(config.get("dl").and_then(|url| url.as_str()).unwrap_or_default())
}

fn own_default(machine: &Machine, home: &Path) -> Result<Vec<RegistryHost>, String> {
    let folder = project(machine)?;
    // Port 9 of this machine discards what it gets, if anybody listens there at all.
    let answer = fetch(
        machine,
        folder.path(),
        &[("CARGO_HTTP_PROXY", "http://127.0.0.1:9"), ("CARGO_NET_RETRY", "0")],
    )?;
    let index = told(utf8(&answer)?)?;
    let mut hosts = downloads(machine, home, &index)?;
    if hosts.is_empty() && index.scheme == Scheme::Https {
        fetch(machine, folder.path(), &[("CARGO_NET_RETRY", "0")])?;
        hosts = downloads(machine, &folder.path().join("home"), &index)?;
    }
    if hosts.is_empty() {
        return Err(
            "cargo cannot say from where its index lets download (is this machine online?)".to_owned()
        );
    }
    hosts.push(index);
    Ok(hosts)
}

/// A package of its own workspace, so that no other is looked for above it.
fn project(machine: &Machine) -> Result<tempfile::TempDir, String> {
    let folder = machine.project()?;
    let write = || {
        fs::write(folder.path().join("Cargo.toml"), PROJECT)?;
        fs::create_dir(folder.path().join("src"))?;
        fs::write(folder.path().join("src/lib.rs"), "")
    };
    write().map_err(|error: std::io::Error| format!("a temporary folder cannot be used: {error}"))?;
    Ok(folder)
}

fn fetch(machine: &Machine, folder: &Path, set: &[(&str, &str)]) -> Result<Text, String> {
    let (home, manifest) = (folder.join("home"), folder.join("Cargo.toml"));
    let not_utf8 = "the name of the temporary folder is not UTF-8";
    let (home, manifest) = (home.to_str().ok_or(not_utf8)?, manifest.to_str().ok_or(not_utf8)?);
    let reads: Vec<_> = machine.home().map(|home| home.join(".rustup")).into_iter().collect();
    let set: Vec<_> =
        set.iter().copied().chain([("CARGO_HOME", home), ("CARGO_TERM_COLOR", "never")]).collect();
    machine.ask(&Question {
        program: "cargo",
        // Told by path: cargo takes configurations from the folder it is run in and all above, and anybody may have
        // put one into a folder for temporary files.
        arguments: &["generate-lockfile", "--manifest-path", manifest],
        variables: &["RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HTTP_CAINFO"],
        set: &set,
        reads: &reads,
        output: Output::WithErrors,
    })
}

/// ``failed to download from `https://…` ``
fn told(answer: &str) -> Result<RegistryHost, String> {
    let url = answer.split("failed to download from `").nth(1).and_then(|rest| rest.split('`').next());
    place(url.ok_or_else(|| "cargo does not say which index it uses".to_owned())?)
}

fn below<'v, 't>(table: &'v DeTable<'t>, key: &str) -> Option<&'v DeTable<'t>> {
    table.get(key).map(|value| value.get_ref()).and_then(DeValue::as_table)
}

fn text_of<'v>(table: &'v DeTable<'_>, key: &str) -> Option<&'v str> {
    table.get(key).and_then(|value| value.get_ref().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registries::names;

    #[test]
    fn a_replaced_source_is_followed_to_its_end() {
        let text = r#"
            [registries.own]
            index = "https://git.registry.example/index.git"
            token = "tok3n"
            [source.crates-io]
            replace-with = "one"
            [source.one]
            registry = "sparse+https://one.registry.example/"
            replace-with = "two"
            [source.two]
            registry = "sparse+https://two.registry.example:8443/index/"
        "#;
        let found = configured(text).unwrap();
        assert_eq!(names(&found.indexes), ["git.registry.example", "two.registry.example"]);
        assert!(found.replaced);
        let vendored = "[source.crates-io]\nreplace-with = \"v\"\n[source.v]\ndirectory = \"vendor\"\n";
        assert_eq!(configured(vendored).unwrap(), Configured { indexes: Vec::new(), replaced: true });
        assert!(!configured("[net]\noffline = true\n").unwrap().replaced);
        let circle = "[source.crates-io]\nreplace-with = \"b\"\n[source.b]\nreplace-with = \"crates-io\"\n";
        assert!(configured(circle).unwrap().indexes.is_empty());
        let error = configured("token = \"tok3n\" = 1").unwrap_err();
        assert!(!error.contains("tok3n"), "{error}");
    }

    #[test]
    fn the_cache_says_from_where_a_mirror_lets_download() {
        let home = tempfile::tempdir().unwrap();
        let index = home.path().join("registry/index/two.registry.example-0123456789abcdef");
        fs::create_dir_all(&index).unwrap();
        fs::write(
            index.join("config.json"),
            r#"{"dl": "https://dl.registry.example/{crate}", "api": "https://x"}"#,
        )
        .unwrap();
        fs::write(
            home.path().join("config.toml"),
            "[source.crates-io]\nreplace-with = \"m\"\n[source.m]\nregistry = \"sparse+https://two.registry.example/\"\n",
        )
        .unwrap();
        let machine = Machine::new(&[("CARGO_HOME", home.path().to_str().unwrap())], home.path());
        assert_eq!(names(&hosts(&machine).unwrap()), ["dl.registry.example", "two.registry.example"]);
    }

    #[test]
    fn cargo_itself_tells_its_index() {
        if !super::super::can_run("cargo", &["--version"]) {
            return;
        }
        let answer = "  failed to download from `https://index.registry.example/config.json`\n";
        assert_eq!(told(answer).unwrap().host, "index.registry.example");
        let machine = Machine::this(&[]);
        let folder = project(&machine).unwrap();
        let dead_end = [("CARGO_HTTP_PROXY", "http://127.0.0.1:9"), ("CARGO_NET_RETRY", "0")];
        let answer = fetch(&machine, folder.path(), &dead_end).unwrap();
        let index = told(utf8(&answer).unwrap()).unwrap();
        assert_eq!((index.scheme, index.port), (Scheme::Https, 443));
    }
}
