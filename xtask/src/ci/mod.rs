//! `cargo xtask ci`: every check and test, in an order that fails early. Stops at the first failure and says how
//! to repeat it. Each further feature set or profile would build all dependencies again, so there are three: dev
//! with all features, release for the end-to-end tests, and the static one of the lab.

mod clients;
mod packages;
mod steps;

use std::time::Instant;

use crate::context::{Context, Failure, Outcome};

use steps::{Counts, Step};

const HELP: &str = "\
usage: cargo xtask ci [--list] [--only STEP]… [--skip STEP]…

Runs all steps (`--list` names them), one line each, and stops at the first failure. As root, missing system
packages are installed by name; otherwise the command to do so is shown. `clients` needs root: one of its tests reads
the memory of another process.";

/// Entry of the verb.
pub fn main(context: &Context, arguments: &[String]) -> Outcome {
    let all = steps::all(context);
    let (mut only, mut skip) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let list = match argument.as_str() {
            "--only" => &mut only,
            "--skip" => &mut skip,
            "--list" => {
                all.iter().for_each(|step| println!("{:16} {}", step.name, step.what));
                return Ok(());
            }
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other => return Err(Failure::usage(format!("unknown option `{other}`\n\n{HELP}"))),
        };
        match rest.next() {
            Some(name) if all.iter().any(|step| step.name == name) => list.push(name.as_str()),
            _ => return Err(Failure::usage(format!("{argument} needs a step; `--list` names them"))),
        }
    }
    let chosen = |step: &&Step| (only.is_empty() || only.contains(&step.name)) && !skip.contains(&step.name);
    run_all(context, all.iter().filter(chosen))
}

fn run_all<'a>(context: &Context, chosen: impl Iterator<Item = &'a Step>) -> Outcome {
    let start = Instant::now();
    let mut tests = Counts::default();
    for step in chosen {
        let begin = Instant::now();
        println!("ci: {} …", step.name);
        let outcome = step.run(context);
        let seconds = begin.elapsed().as_secs();
        match outcome {
            Ok(counts) => {
                println!("ci: {:16} {} {seconds:5} s", step.name, counts.word());
                tests.add(counts);
            }
            Err(failure) => {
                println!("ci: {:16} FAILED after {seconds} s: {failure}", step.name);
                println!("ci: the whole step again: cargo xtask ci --only {}", step.name);
                return Err(Failure::new(format!("step {} failed", step.name)));
            }
        }
    }
    let seconds = start.elapsed().as_secs();
    match tests.skipped() {
        [] => println!("ci: all passed in {seconds} s"),
        skipped => {
            println!("ci: passed in {seconds} s, but not all was run:");
            skipped.iter().for_each(|what| println!("ci: {what}"));
        }
    }
    // In cargo's own words, for those who look for them at the end of a log.
    if tests.any() {
        println!("test result: ok. {tests}");
    }
    Ok(())
}
