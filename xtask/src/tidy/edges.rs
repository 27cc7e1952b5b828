//! Which crate may depend on which, and what must not come in from outside.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Findings;
use crate::context::{Context, Failure, Outcome, output};

/// Libraries: none knows another member of the workspace.
const LIBRARIES: [&str; 6] = ["policy", "credvault", "netproxy", "vmm-core", "guest-agent", "guest-image"];
/// Programs and tests: nothing depends on them.
const LEAVES: [&str; 5] = ["examples", "benches", "tests", "xtask", "lab-init"];

/// Crates of which a second version compiles and then refuses to work with the first.
const ONE_VERSION: [&str; 10] = [
    "vm-memory",
    "virtio-queue",
    "virtio-bindings",
    "vhost",
    "vhost-user-backend",
    "kvm-bindings",
    "kvm-ioctls",
    "linux-loader",
    "vmm-sys-util",
    "rustls",
];

const RUNTIMES: &[&str] = &["tokio", "async-std", "smol"];
const NETWORK: &[&str] = &["hyper", "reqwest", "ureq", "rustls", "openssl", "native-tls"];

/// Crates that must not be among what a package is built from.
struct Ban {
    package: &'static str,
    features: &'static str,
    banned: &'static [&'static [&'static str]],
}

const BANS: [Ban; 5] = [
    Ban { package: "policy", features: "--all-features", banned: &[RUNTIMES, NETWORK] },
    Ban { package: "vmm-core", features: "--all-features", banned: &[RUNTIMES, NETWORK] },
    Ban { package: "guest-agent", features: "--all-features", banned: &[RUNTIMES, NETWORK] },
    Ban { package: "credvault", features: "--all-features", banned: &[NETWORK] },
    Ban { package: "netproxy", features: "--no-default-features", banned: &[RUNTIMES, NETWORK] },
];

pub fn check(context: &Context, findings: &mut Findings) -> Outcome {
    let metadata = output(&mut context.cargo(&["metadata", "--format-version", "1", "--locked", "--quiet"]))?;
    let metadata =
        serde_json::from_str(&metadata).map_err(|e| Failure::new(format!("cargo metadata: {e}")))?;
    members(&metadata, findings);
    versions(&metadata, findings);
    for ban in &BANS {
        let mut tree =
            context.cargo(&["tree", "--locked", "--quiet", "--prefix", "none", "-e", "normal,build"]);
        tree.args(["-p", ban.package, ban.features]);
        trees(ban.package, &output(&mut tree)?, ban.banned, findings);
    }
    Ok(())
}

fn members(metadata: &Value, findings: &mut Findings) {
    for package in local_packages(metadata) {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            if dependency["path"].is_null() {
                continue;
            }
            if LIBRARIES.contains(&name) {
                findings
                    .error(format!("{name} depends on {to}: libraries know no other crate of the workspace"));
            } else if LEAVES.contains(&to) {
                findings.error(format!("{name} depends on {to}: nothing depends on programs and tests"));
            }
        }
        if !LIBRARIES.contains(&name) && !LEAVES.contains(&name) {
            findings.error(format!("{name} is in no group of xtask/src/tidy/edges.rs"));
        }
    }
}

fn local_packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten().filter(|p| p["source"].is_null())
}

fn versions(metadata: &Value, findings: &mut Findings) {
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        if let (Some(name), Some(version)) = (package["name"].as_str(), package["version"].as_str()) {
            seen.entry(name).or_default().insert(version);
        }
    }
    for name in ONE_VERSION {
        if let Some(versions) = seen.get(name).filter(|v| v.len() > 1) {
            findings.error(format!("{name} is in the tree in versions {versions:?}; one is allowed"));
        }
    }
}

fn trees(package: &str, tree: &str, banned: &[&[&str]], findings: &mut Findings) {
    let found: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for name in banned.iter().copied().flatten().filter(|name| found.contains(**name)) {
        findings.error(format!("{name} is among the dependencies of {package}, where it does not belong"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_knows_another_is_found() {
        let metadata = serde_json::json!({"packages": [
            {"name": "policy", "version": "1", "source": null,
             "dependencies": [{"name": "netproxy", "path": "x"}, {"name": "serde", "path": null}]},
            {"name": "examples", "version": "1", "source": null, "dependencies": [{"name": "policy", "path": "x"}]},
            {"name": "tests", "version": "1", "source": null, "dependencies": [{"name": "examples", "path": "x"}]},
            {"name": "vm-memory", "version": "1.0.0", "source": "r", "dependencies": []},
            {"name": "vm-memory", "version": "2.0.0", "source": "r", "dependencies": []},
        ]});
        let mut findings = Findings::default();
        members(&metadata, &mut findings);
        versions(&metadata, &mut findings);
        let starts = ["policy depends on netproxy", "tests depends on examples", "vm-memory is in the tree"];
        assert_eq!(findings.errors.len(), 3, "{findings:?}");
        assert!(findings.errors.iter().zip(starts).all(|(e, s)| e.starts_with(s)), "{findings:?}");
    }

    #[test]
    fn a_banned_crate_is_found_by_its_whole_name() {
        let mut findings = Findings::default();
        trees("policy", "policy v0.1.0 (x)\ntokio-util v1\nhyper v1\n", &[RUNTIMES, NETWORK], &mut findings);
        assert_eq!(findings.errors.len(), 1, "{findings:?}");
    }
}
