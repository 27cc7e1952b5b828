//! Names that must lead somewhere: a fuzz target to its module, `docs/attacks.md` to its tests.

use std::collections::HashSet;

use super::{Findings, Tracked};

pub fn check(files: &[Tracked], findings: &mut Findings) {
    fuzz_targets(files, findings);
    attacks(files, findings);
}

/// `fuzz_targets/netproxy_wire_framing.rs` → `netproxy/src/wire/framing.rs` or `…/framing/mod.rs`. Targets that
/// compare two things have `_vs_` in their name instead.
fn fuzz_targets(files: &[Tracked], findings: &mut Findings) {
    let modules: HashSet<String> = files.iter().filter_map(|f| module_name(&f.path)).collect();
    for file in files {
        let Some(target) = file.path.strip_prefix("fuzz/fuzz_targets/").and_then(|p| p.strip_suffix(".rs"))
        else {
            continue;
        };
        if !target.contains("_vs_") && !modules.contains(target) {
            findings.error(format!("{}: no module is called {target}", file.path));
        }
    }
}

/// `vmm-core/src/devices/vsock/mod.rs` → `vmm_core_devices_vsock`.
fn module_name(path: &str) -> Option<String> {
    let (package, module) = path.strip_suffix(".rs")?.split_once("/src/")?;
    let module = module.strip_suffix("/mod").unwrap_or(module);
    Some(format!("{package}/{module}").replace(['-', '/'], "_"))
}

/// Every test in backquotes (a snake-case name of three words or more) must be a function or a test case.
fn attacks(files: &[Tracked], findings: &mut Findings) {
    let Some(page) = files.iter().find(|f| f.path == "docs/attacks.md") else { return };
    let known = known_names(files);
    for (index, line) in page.text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let name = quoted.rsplit("::").next().unwrap_or(quoted);
            let is_test = name.matches('_').count() >= 2
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if is_test && !known.contains(name) {
                findings.error(format!("docs/attacks.md:{}: there is no test {name}", index + 1));
            }
        }
    }
}

fn known_names(files: &[Tracked]) -> HashSet<&str> {
    let mut names = HashSet::new();
    for file in files {
        let cases = file.path.starts_with("testdata/");
        for line in file.text.lines() {
            if file.path.ends_with(".rs") {
                let function = line.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next());
                names.extend(function);
            } else if cases && line.starts_with("name") {
                names.extend(line.split('"').nth(1));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Tracked {
        Tracked { path: path.into(), text: text.into() }
    }

    #[test]
    fn names_that_lead_nowhere_are_found() {
        let files = [
            file("netproxy/src/wire/framing.rs", "    fn smuggled_length_is_refused() {"),
            file("vmm-core/src/devices/vsock/mod.rs", ""),
            file("testdata/authority.toml", "name = \"nul_in_host\"\n"),
            file("fuzz/fuzz_targets/netproxy_wire_framing.rs", ""),
            file("fuzz/fuzz_targets/vmm_core_devices_vsock.rs", ""),
            file("fuzz/fuzz_targets/authority_vs_policy.rs", ""),
            file("fuzz/fuzz_targets/netproxy_wire_gone.rs", ""),
            file(
                "docs/attacks.md",
                "| CVE | `Content-Length` | `wire::framing::smuggled_length_is_refused` |\n\
                 | x | `nul_in_host` | `gone_from_the_tests` |\n",
            ),
        ];
        let mut findings = Findings::default();
        check(&files, &mut findings);
        assert_eq!(
            findings.errors,
            [
                "fuzz/fuzz_targets/netproxy_wire_gone.rs: no module is called netproxy_wire_gone",
                "docs/attacks.md:2: there is no test gone_from_the_tests",
            ]
        );
    }
}
