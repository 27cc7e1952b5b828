//! Names that must lead somewhere: a fuzz target to its module and to what it starts from, `docs/attacks.md` to its tests.

use std::collections::HashSet;

use super::{Findings, Tracked};

pub fn check(files: &[Tracked], findings: &mut Findings) {
    fuzz_targets(files, findings);
    attacks(files, findings);
}

/// Input of these is a row of choices, each one byte: they have no words.
const WITHOUT_DICTIONARY: [&str; 4] =
    ["policy_decide", "vmm_core_devices_fs", "vmm_core_devices_vsock", "vmm_core_devices_vsock_connection"];

/// `fuzz_targets/netproxy_wire_framing.rs` → `netproxy/src/wire/framing.rs` or `…/framing/mod.rs`. Targets that
/// compare two things have `_vs_` in their name instead. Each has seeds, words and a line that says what it holds.
fn fuzz_targets(files: &[Tracked], findings: &mut Findings) {
    let modules: HashSet<String> = files.iter().filter_map(|f| module_name(&f.path)).collect();
    let paths: HashSet<&str> = files.iter().map(|f| f.path.as_str()).collect();
    let seeded: HashSet<&str> =
        paths.iter().filter_map(|p| Some(p.strip_prefix("fuzz/corpus/")?.split_once('/')?.0)).collect();
    let list = files.iter().find(|f| f.path == "fuzz/README.md").map_or("", |f| &f.text);
    for file in files {
        let Some(target) = file.path.strip_prefix("fuzz/fuzz_targets/").and_then(|p| p.strip_suffix(".rs"))
        else {
            continue;
        };
        let dictionary = format!("fuzz/dictionaries/{target}.dict");
        let is_wordless = WITHOUT_DICTIONARY.contains(&target);
        let rules = [
            (target.contains("_vs_") || modules.contains(target), format!("no module is called {target}")),
            (seeded.contains(target), format!("no seed in fuzz/corpus/{target}")),
            (is_wordless || paths.contains(&*dictionary), format!("no {dictionary}, nor a reason in xtask")),
            (list.contains(&format!("| `{target}` |")), "no line in the list of fuzz/README.md".to_owned()),
        ];
        for (_, reason) in rules.into_iter().filter(|(holds, _)| !holds) {
            findings.error(format!("{}: {reason}", file.path));
        }
    }
}

/// `vmm-core/src/devices/vsock/mod.rs` → `vmm_core_devices_vsock`.
fn module_name(path: &str) -> Option<String> {
    let path = path.strip_suffix(".rs")?;
    // A library of this package that has no folder `src`.
    let (package, module) = match path.strip_prefix("examples/") {
        Some(module) => ("examples", module),
        None => path.split_once("/src/")?,
    };
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
            file("fuzz/fuzz_targets/policy_decide.rs", ""),
            file("policy/src/decide.rs", ""),
            file("fuzz/corpus/netproxy_wire_framing/found-1", ""),
            file("fuzz/corpus/authority_vs_policy/one", ""),
            file("fuzz/corpus/netproxy_wire_gone/one", ""),
            file("fuzz/corpus/policy_decide/one", ""),
            file("fuzz/dictionaries/netproxy_wire_framing.dict", ""),
            file("fuzz/dictionaries/netproxy_wire_gone.dict", ""),
            file(
                "fuzz/README.md",
                "| `netproxy_wire_framing` | a |\n| `vmm_core_devices_vsock` | b |\n\
                 | `authority_vs_policy` | c |\n| `netproxy_wire_gone` | d |\n`policy_decide`\n",
            ),
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
                "fuzz/fuzz_targets/vmm_core_devices_vsock.rs: no seed in fuzz/corpus/vmm_core_devices_vsock",
                "fuzz/fuzz_targets/authority_vs_policy.rs: no fuzz/dictionaries/authority_vs_policy.dict, \
                 nor a reason in xtask",
                "fuzz/fuzz_targets/netproxy_wire_gone.rs: no module is called netproxy_wire_gone",
                "fuzz/fuzz_targets/policy_decide.rs: no line in the list of fuzz/README.md",
                "docs/attacks.md:2: there is no test gone_from_the_tests",
            ]
        );
    }
}
