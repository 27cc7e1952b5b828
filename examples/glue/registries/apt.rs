//! apt: `/etc/apt/sources.list`, and beside it `sources.list.d/*.list` (one line each) and `*.sources` (paragraphs).
//! Its default is no source at all, so nobody has to be asked.

use policy::RegistryHost;

use super::machine::Machine;
use super::{place, utf8};

pub(super) fn hosts(machine: &Machine) -> Result<Vec<RegistryHost>, String> {
    let folder = machine.system("etc/apt/sources.list.d");
    let mut files = vec![machine.system("etc/apt/sources.list")];
    files.extend(machine.list(&folder, "list"));
    let mut hosts = Vec::new();
    for path in files {
        if let Some(text) = machine.read(&path)? {
            hosts.extend(places(lines(utf8(&text)?))?);
        }
    }
    for path in machine.list(&folder, "sources") {
        if let Some(text) = machine.read(&path)? {
            hosts.extend(places(paragraphs(utf8(&text)?))?);
        }
    }
    match hosts.is_empty() {
        true => Err(format!("neither {} nor {} names a server", files_of(machine), folder.display())),
        false => Ok(hosts),
    }
}

fn files_of(machine: &Machine) -> String {
    machine.system("etc/apt/sources.list").display().to_string()
}

/// Discs and folders of this machine are no servers.
fn places<'t>(uris: impl Iterator<Item = &'t str>) -> Result<Vec<RegistryHost>, String> {
    let local = ["cdrom:", "file:", "copy:", "mirror+file:"];
    uris.filter(|uri| !local.iter().any(|scheme| uri.starts_with(scheme))).map(place).collect()
}

/// `deb [options] URI suite component…`
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.split('#').next().unwrap_or_default().trim();
        let rest = line.strip_prefix("deb-src").or_else(|| line.strip_prefix("deb"))?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        rest.split_whitespace().next()
    })
}

/// `URIs:` of each paragraph that is enabled; a line that begins with a space goes on with the one before.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut uris = Vec::new();
    let (mut own, mut enabled, mut in_uris) = (Vec::new(), true, false);
    for line in text.lines().chain(std::iter::once("")) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            uris.extend(own.drain(..).filter(|_| enabled));
            (enabled, in_uris) = (true, false);
            continue;
        }
        let value = match line.split_once(':') {
            Some((key, value)) if !line.starts_with([' ', '\t']) => {
                in_uris = key.eq_ignore_ascii_case("uris");
                if key.eq_ignore_ascii_case("enabled") {
                    enabled = !matches!(value.trim(), "no" | "false" | "0" | "off" | "without" | "disable");
                }
                value
            }
            _ => line,
        };
        if in_uris {
            own.extend(value.split_whitespace());
        }
    }
    uris.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_its_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/apt/sources.list.d");
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        std::fs::write(
            root.path().join("etc/apt/sources.list"),
            "# deb http://comment.registry.example/ x main\n\
             deb [arch=amd64 signed-by=/k.gpg] https://a.registry.example/debian stable main # note\n\
             deb-src http://b.registry.example:8080/debian stable main\ndeb cdrom:[Disc]/ stable main\n",
        )
        .unwrap();
        write("c.list", "deb\thttps://c.registry.example/ ./\n");
        write(
            "d.sources",
            "Types: deb\nURIs: https://d.registry.example/x\n  http://e.registry.example\nSuites: x\n\n\
                            Types: deb\nEnabled: no\nURIs: https://off.registry.example\n",
        );
        write("f.list.disabled", "deb https://f.registry.example/ ./\n");
        let machine = Machine::new(&[], root.path());
        let found = hosts(&machine).unwrap();
        let names: Vec<_> = found.iter().map(|host| format!("{}:{}", host.host, host.port)).collect();
        let expected = [
            "a.registry.example:443",
            "b.registry.example:8080",
            "c.registry.example:443",
            "d.registry.example:443",
            "e.registry.example:80",
        ];
        assert_eq!(names, expected);
        write("g.list", "deb mirror://g.registry.example/list stable main\n");
        assert!(hosts(&machine).unwrap_err().contains("https or http"));
    }
}
