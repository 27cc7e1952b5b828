//! `cargo xtask VERB`: everything that CI and developers run. Each verb has a module; run one with `--help`.

mod ci;
mod context;
mod fuzz;
mod kernel;
mod lab;
mod tidy;

use std::process::ExitCode;

use context::{Context, Failure};

const HELP: &str = "\
usage: cargo xtask VERB [options]

  ci          all checks and tests, one line each; stops at the first failure
  tidy        rules that compilers do not check: crate edges, file sizes, unsafe, texts
  kvm-lab     tests of the VMM on a standard /dev/kvm, inside an emulated machine
  kernel      builds the minimal guest kernel into the cache
  fuzz-smoke  ten seconds of every fuzz target (nightly and cargo-fuzz needed)

`cargo xtask VERB --help` says more.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let context = Context::new();
    let outcome = match verb.as_str() {
        "ci" => ci::main(&context, &rest),
        "fuzz-smoke" => fuzz::main(&context, &rest),
        "tidy" => tidy::main(&context, &rest),
        "kvm-lab" => lab::main(&context, &rest),
        "kernel" => kernel::main(&context, &rest),
        "" | "help" | "-h" | "--help" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(Failure::usage(format!("unknown verb `{other}`\n\n{HELP}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
