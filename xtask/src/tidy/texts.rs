//! Words that must not be in tracked files: hosts of package registries (users may have mirrors, and our own
//! tools know where packages come from) and paths that exist on one machine only.

use super::{Findings, Tracked};

/// Files that are made by tools, or that decide about such hosts for a living.
const EXEMPT: [&str; 6] =
    ["Cargo.lock", "fuzz/Cargo.lock", "deny.toml", "policy/", "testdata/", "credvault/src/services.toml"];

pub fn check(files: &[Tracked], findings: &mut Findings) {
    let words = words();
    for file in files.iter().filter(|f| !EXEMPT.iter().any(|exempt| f.path.starts_with(exempt))) {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(*word)) {
                findings.error(format!(
                    "{}:{}: `{word}` does not belong into the project",
                    file.path,
                    index + 1
                ));
            }
        }
    }
}

/// Hosts are written backwards and paths in two pieces, so that this file holds none of them.
fn words() -> Vec<String> {
    let hosts = [
        "gro.naibed.bed",
        "gro.naibed.ytiruces",
        "moc.utnubu.evihcra",
        "oi.setarc.xedni",
        "oi.setarc.citats",
        "gro.sjmpn.yrtsiger",
        "gro.detsohnohtyp.selif",
        "gro.ipyp",
        "gro.gnalog.yxorp",
    ];
    let hosts = hosts.iter().map(|host| host.chars().rev().collect::<String>());
    let paths = [
        ("/wor", "k/main"),
        ("/wor", "k/shared"),
        ("/wor", "k/scratch"),
        ("/wor", "k/target"),
        ("/wor", "k/.library"),
        ("/roo", "t/.c"),
    ];
    hosts.chain(paths.iter().map(|(a, b)| format!("{a}{b}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_host_and_a_machine_path_are_found() {
        let text = format!("fine\nhttps://{}/x\n", words()[0]);
        let mut findings = Findings::default();
        for path in ["README.md", "policy/src/presets.toml"] {
            check(&[Tracked { path: path.into(), text: text.clone() }], &mut findings);
        }
        assert_eq!(findings.errors.len(), 1, "{findings:?}");
        assert!(findings.errors[0].starts_with("README.md:2: "), "{findings:?}");
    }
}
