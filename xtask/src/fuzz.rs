//! `cargo xtask fuzz-smoke`: every fuzz target for a few seconds, on its kept corpus. Where the tools are
//! missing it says so loudly and succeeds: nobody should need a nightly compiler to run the tests.

use std::fs;
use std::process::Command;

use crate::context::{Context, Failure, Outcome, at, find_program, run};

const HELP: &str = "\
usage: cargo xtask fuzz-smoke [--seconds N] [TARGET…]

Runs every fuzz target (or those named) for N seconds (default 10), or with 0 on its kept corpus alone. Needs
`rustup toolchain install nightly` and `cargo install cargo-fuzz`.";

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
        println!("SKIPPED fuzz-smoke: {missing}; {} targets were not run", targets.len());
        return Ok(());
    }
    for target in targets.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        println!("fuzz-smoke: {target}");
        smoke(context, target, seconds)?;
    }
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
