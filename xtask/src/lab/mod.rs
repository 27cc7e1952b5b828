//! `cargo xtask kvm-lab`: tests of the VMM on a standard /dev/kvm, on any machine.
//!
//! QEMU's software emulation offers AMD SVM, so a stock Debian kernel in it ("L1") has an ordinary, working
//! `/dev/kvm`. Static test binaries run there and start their own guests ("L2"). It is slow and noisy: good for
//! right and wrong, never for absolute times.

mod machine;
mod payload;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::context::{Context, Failure, Outcome, at};

use machine::{End, Machine};
use payload::Payload;

const HELP: &str = "\
usage: cargo xtask kvm-lab [options] [-- PROGRAM [ARGUMENTS…]]

Without PROGRAM: builds vmm-core's test `lab` statically and runs it in the lab; --filter is passed to it.
With PROGRAM: runs that static program there instead.

  --filter TEXT   only tests with TEXT in their name
  --cpus N        processors of the outer machine (default 1; with 2 it panics now and then)
  --memory MIB    its memory (default 3072)
  --timeout SEC   time for one boot and all tests (default 900)
  --console       show the outer kernel's console

Inside, AGENT_SANDBOX_KVM_LAB=1 is set, and these name files: AGENT_SANDBOX_LAB_KERNEL_6_12,
…_KERNEL_6_12_BZIMAGE, …_INITRAMFS_6_12, the same with 6_1, and …_KERNEL_MINIMAL, …_INITRAMFS_MINIMAL when
`cargo xtask kernel` has been run. Each initramfs holds the static guest agent and the modules it loads.

Exit code: the program's; 124 when it took too long; 125 when the lab itself died three times.";

/// The emulated machine itself dies now and then; a test that fails is never repeated.
const BOOTS_MAX: u32 = 3;

/// Options of the verb.
#[derive(Debug)]
struct Options {
    filter: Option<String>,
    cpus: u32,
    memory_mib: u32,
    timeout: Duration,
    console: bool,
    program: Vec<String>,
}

/// Entry of the verb.
pub fn main(context: &Context, arguments: &[String]) -> Outcome {
    let Some(options) = parse(arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    let qemu = machine::find_qemu()?;
    let payload = Payload::build(context, &options.program, options.filter.as_deref())?;
    let folder = context.static_target().join("lab");
    at(&folder, fs::create_dir_all(&folder))?;
    let scratch = at(&folder, tempfile::tempdir_in(&folder))?;
    let machine = Machine {
        qemu,
        kernel: payload.kernel.clone(),
        initrd: payload.write(scratch.path())?,
        scratch: scratch.path().to_path_buf(),
        cpus: options.cpus,
        memory_mib: options.memory_mib,
        timeout: options.timeout,
        console: options.console,
    };
    for boot in 1..=BOOTS_MAX {
        match machine.run()? {
            End::Exited(0) => return Ok(()),
            End::Exited(code) => {
                let text = format!("the program in the lab failed (exit code {code})");
                return Err(Failure::with_code(text, code));
            }
            End::TimedOut => {
                let text = format!("the lab took longer than {} s", options.timeout.as_secs());
                return Err(Failure::with_code(text, 124));
            }
            End::Died { started } => {
                let when = if started { "while the program ran" } else { "before the program started" };
                eprintln!("xtask: the lab itself died {when} (boot {boot} of {BOOTS_MAX})");
            }
        }
    }
    Err(Failure::with_code(format!("the lab itself died {BOOTS_MAX} times"), 125))
}

fn parse(arguments: &[String]) -> Outcome<Option<Options>> {
    let mut options = Options {
        filter: None,
        cpus: 1,
        memory_mib: 3072,
        timeout: Duration::from_secs(900),
        console: false,
        program: Vec::new(),
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || {
            let value = rest.next().and_then(|v| v.parse::<u32>().ok()).filter(|n| *n > 0);
            value.ok_or_else(|| Failure::usage(format!("{argument} needs a number")))
        };
        match argument.as_str() {
            "--cpus" => options.cpus = number()?,
            "--memory" => options.memory_mib = number()?,
            "--timeout" => options.timeout = Duration::from_secs(u64::from(number()?)),
            "--console" => options.console = true,
            "--filter" => options.filter = rest.next().cloned(),
            "--help" | "-h" => return Ok(None),
            "--" => {
                options.program = rest.cloned().collect();
                break;
            }
            other => return Err(Failure::usage(format!("unknown option `{other}`\n\n{HELP}"))),
        }
    }
    Ok(Some(options))
}

/// A file on its way into the lab.
#[derive(Debug, Clone)]
struct Shipped {
    from: PathBuf,
    name: String,
    permissions: u32,
}
