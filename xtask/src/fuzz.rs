//! `cargo xtask fuzz-smoke`: every fuzz target for a few seconds, on its kept corpus. Where the tools are
//! missing it says so loudly and succeeds, as nobody should need a nightly compiler to run the tests, unless
//! [`REQUIRE`] is set.

use std::fs;
use std::process::Command;

use crate::context::{Context, Failure, Outcome, at, find_program, run};

const HELP: &str = "\
usage: cargo xtask fuzz-smoke [--seconds N] [TARGET…]

Runs every fuzz target (or those named) for N seconds (default 10), or with 0 on its kept corpus alone. Needs
`rustup toolchain install nightly` and `cargo install cargo-fuzz`; without them it succeeds, unless
AGENT_SANDBOX_REQUIRE_FUZZ=1.";

/// Where this is set (and not 0), what is missing is a failure.
const REQUIRE: &str = "AGENT_SANDBOX_REQUIRE_FUZZ";

/// Entry of the verb.
pub fn main(context: &Context, arguments: &[String]) -> Outcome {
    let mut seconds = 10;
    let mut wanted = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => {
                let value = rest.next().and_then(|n| n.parse::<u32>().ok());
                seconds = value.ok_or_else(|| Failure::usage("--seconds needs a number"))?;
            }
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            target => wanted.push(target.to_owned()),
        }
    }
    let targets = targets(context)?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        return Err(Failure::usage(format!("no fuzz target {unknown}; there are: {}", targets.join(" "))));
    }
    if targets.is_empty() {
        println!("SKIPPED fuzz-smoke: there is no fuzz/fuzz_targets yet");
        return Ok(());
    }
    if let Some(missing) = missing() {
        let is_required = std::env::var_os(REQUIRE).is_some_and(|value| value != "0");
        return skipped(&format!("{missing}; {} targets were not run", targets.len()), is_required);
    }
    for target in targets.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        println!("fuzz-smoke: {target}");
        smoke(context, target, seconds)?;
    }
    Ok(())
}

fn skipped(reason: &str, is_required: bool) -> Outcome {
    if is_required {
        return Err(Failure::new(format!("{reason}, and {REQUIRE} is set")));
    }
    println!("SKIPPED fuzz-smoke: {reason}");
    Ok(())
}

/// New inputs go into a folder that is thrown away: a smoke test must not change the kept corpus.
fn smoke(context: &Context, target: &str, seconds: u32) -> Outcome {
    let scratch = at(&std::env::temp_dir(), tempfile::tempdir())?;
    let kept = context.root.join("fuzz/corpus").join(target);
    let dictionary = context.root.join("fuzz/dictionaries").join(format!("{target}.dict"));
    let mut fuzz = nightly(&["fuzz", "run", target]);
    fuzz.current_dir(&context.root).arg(scratch.path());
    if kept.is_dir() {
        fuzz.arg(kept);
    }
    // Without seconds, each kept input once: the same every time, which is what CI wants.
    let bound = if seconds == 0 { "-runs=0".to_owned() } else { format!("-max_total_time={seconds}") };
    fuzz.args(["--", "-timeout=60"]).arg(bound);
    if dictionary.is_file() {
        fuzz.arg(format!("-dict={}", dictionary.display()));
    }
    run(&mut fuzz)
}

fn targets(context: &Context) -> Outcome<Vec<String>> {
    let folder = context.root.join("fuzz/fuzz_targets");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = at(&folder, fs::read_dir(&folder))?.flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let mut targets: Vec<String> = names.filter_map(|n| n.strip_suffix(".rs").map(str::to_owned)).collect();
    targets.sort();
    Ok(targets)
}

/// What keeps us from fuzzing, if anything.
fn missing() -> Option<&'static str> {
    if find_program("rustup").is_none() {
        return Some("rustup is not here, so there is no nightly compiler");
    }
    let works = |arguments: &[&str]| nightly(arguments).output().is_ok_and(|o| o.status.success());
    if !works(&["--version"]) {
        return Some("no nightly toolchain (rustup toolchain install nightly)");
    }
    (!works(&["fuzz", "--version"])).then_some("no cargo-fuzz (cargo install cargo-fuzz)")
}

/// The nightly cargo, without what the stable one that runs us has set for its children.
fn nightly(arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(arguments);
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "CARGO_TARGET_DIR", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_fails_only_where_it_is_required() {
        assert!(skipped("no cargo-fuzz", false).is_ok());
        let error = skipped("no cargo-fuzz", true).unwrap_err().to_string();
        assert!(error.contains("no cargo-fuzz") && error.contains(REQUIRE), "{error}");
    }
}
