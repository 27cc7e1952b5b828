//! go: `go env` says its module proxies and its checksum server, defaults included. What it gets `direct` from the
//! modules' own hosts is not named by any configuration and stays out.

use policy::{RegistryHost, Scheme};

use super::machine::{Machine, Output, Question};
use super::{place, place_at};

const VARIABLES: [&str; 6] = ["GOENV", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOROOT"];

pub(super) fn hosts(machine: &Machine) -> Result<Vec<RegistryHost>, String> {
    let reads: Vec<_> = machine.config_home().map(|folder| folder.join("go")).into_iter().collect();
    let answer = machine.ask(&Question {
        program: "go",
        arguments: &["env", "-json", "GOPROXY", "GOSUMDB"],
        variables: &VARIABLES,
        // It must not fetch another version of itself to answer.
        set: &[("GOTOOLCHAIN", "local"), ("GO111MODULE", "on")],
        reads: &reads,
        output: Output::Plain,
    })?;
    configured(&answer)
}

fn configured(answer: &[u8]) -> Result<Vec<RegistryHost>, String> {
    let answer: serde_json::Value =
        serde_json::from_slice(answer).map_err(|_| "go's configuration cannot be read".to_owned())?;
    let value = |name: &str| answer.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let proxies = value("GOPROXY");
    let remote = proxies.split([',', '|']).map(str::trim).filter(|proxy| proxy.contains("://"));
    let remote = remote.filter(|proxy| !proxy.starts_with("file:"));
    let mut hosts = remote.map(place).collect::<Result<Vec<_>, _>>()?;
    if hosts.is_empty() {
        return Err(
            "GOPROXY names no server (go gets modules from their own hosts, or not at all)".to_owned()
        );
    }
    // `off`; `name` or `name+key`, whose server is called like it; or `name+key URL`.
    let sums = value("GOSUMDB");
    match sums.trim().split_once(' ') {
        Some((_, url)) => hosts.push(place(url)?),
        None => match sums.split('+').next().unwrap_or_default() {
            "" | "off" => {}
            name => hosts.push(place_at(Scheme::Https, name)?),
        },
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn proxies_and_the_checksum_server_are_named() {
        let named = |proxy: &str, sums: &str| {
            let answer = format!("{{\"GOPROXY\": \"{proxy}\", \"GOSUMDB\": \"{sums}\"}}");
            configured(answer.as_bytes())
                .map(|hosts| hosts.into_iter().map(|host| host.host).collect::<Vec<_>>())
        };
        let two = named("https://a.registry.example|https://b.registry.example/go,direct", "off").unwrap();
        assert_eq!(two, ["a.registry.example", "b.registry.example"]);
        let sums = named("https://a.registry.example,file:///m", "sum.registry.example+1+AAAA").unwrap();
        assert_eq!(sums, ["a.registry.example", "sum.registry.example"]);
        let at =
            named("https://a.registry.example", "sum.example+1+A https://c.registry.example/sums").unwrap();
        assert_eq!(at, ["a.registry.example", "c.registry.example"]);
        assert!(named("direct", "sum.registry.example").unwrap_err().contains("GOPROXY"));
        assert!(configured(b"go: no such tool").is_err());
    }

    #[test]
    fn go_itself_tells_what_its_file_says() {
        if !super::super::can_run("go", &["version"]) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        std::fs::write(&file, "GOPROXY=https://mirror.registry.example,direct\nGOSUMDB=off\n").unwrap();
        let path = std::env::var("PATH").unwrap();
        let home = folder.path().to_str().unwrap();
        let variables = [("PATH", path.as_str()), ("HOME", home), ("GOENV", file.to_str().unwrap())];
        let found = hosts(&Machine::new(&variables, Path::new("/"))).unwrap();
        assert_eq!(
            found.iter().map(|host| host.host.as_str()).collect::<Vec<_>>(),
            ["mirror.registry.example"]
        );
        let found = hosts(&Machine::new(&[("PATH", &path), ("HOME", home)], Path::new("/"))).unwrap();
        assert_eq!(found.len(), 2, "a proxy and a checksum server are compiled in");
    }
}
