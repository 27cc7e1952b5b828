//! Keys out of the environment. The kernel shows what a process was started with in `/proc/PID/environ`, for as long as
//! it runs, and its children get it: so the values are overwritten where they stand. Must run before anything else copies
//! the environment.
//!
//! (`inject-proxy` starts itself anew instead, with the values on standard input. Here that is the sandbox's.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use credvault::Secret;
use glue::keys::SecretSource;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::RunArgs;
use crate::report::Style;

/// Values by the name of their variable; none for one that is not set.
pub type Values = BTreeMap<String, Secret>;

/// The values of all `--secret` and `--service`. What cannot be overwritten is said.
pub fn take(args: &RunArgs, style: Style) -> Values {
    let sources = args.secrets.iter().map(|spec| &spec.source);
    let sources = sources.chain(args.service.iter().map(|spec| &spec.source));
    let names: BTreeSet<&str> = sources
        .filter_map(|source| match source {
            SecretSource::HostEnvironment(variable) => Some(variable.as_str()),
            SecretSource::Vault | SecretSource::File(_) | SecretSource::Command { .. } => None,
        })
        .collect();
    let value = |name: &str| Some((name.to_owned(), Secret::new(std::env::var_os(name)?.into_vec())));
    let values: Values = names.iter().filter_map(|name| value(name)).collect();
    if !values.is_empty()
        && let Err(error) = clear(&names)
    {
        let text = format!("keys in this program's environment stay there while it runs: {error}");
        style.or_text().say("secret", &text, json!({ "message": text }));
    }
    values
}

/// Makes these variables empty, in the block that the kernel gave this process.
fn clear(names: &BTreeSet<&str>) -> io::Result<()> {
    let (start, end) = block(&fs::read_to_string("/proc/self/stat")?)
        .ok_or_else(|| io::Error::other("/proc/self/stat does not say where it is"))?;
    let memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    let length = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
    let mut text = Zeroizing::new(vec![0; length]);
    memory.read_exact_at(&mut text, start)?;
    let mut at = start;
    for entry in text.split(|byte| *byte == 0) {
        let after_name = entry.iter().position(|byte| *byte == b'=').unwrap_or(entry.len());
        let (name, value) = entry.split_at_checked(after_name.saturating_add(1)).unwrap_or((entry, &[]));
        let name = name.strip_suffix(b"=").and_then(|name| str::from_utf8(name).ok());
        if name.is_some_and(|name| names.contains(name)) {
            let value_at = at.saturating_add(after_name as u64).saturating_add(1);
            memory.write_all_at(&vec![0; value.len()], value_at)?;
        }
        at = at.saturating_add(entry.len() as u64).saturating_add(1);
    }
    Ok(())
}

/// `env_start` and `env_end` (proc_pid_stat(5)). The name of the program, in parentheses, may hold anything.
fn block(stat: &str) -> Option<(u64, u64)> {
    /// Fields between the name and `env_start`.
    const BETWEEN: usize = 47;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(BETWEEN);
    let start = fields.next()?.parse().ok().filter(|start| *start != 0)?;
    Some((start, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cleared_variable_is_empty_and_the_others_are_as_before() {
        use std::io::Write as _;

        // Cargo gives it to every test, and nobody here asks for it.
        const NAME: &str = "CARGO_PKG_DESCRIPTION";
        let block = || fs::read("/proc/self/environ").unwrap();
        let entry = format!("{NAME}={}\0", env!("CARGO_PKG_DESCRIPTION"));
        let before = block();
        let Some(at) = before.windows(entry.len()).position(|window| window == entry.as_bytes()) else {
            let _ =
                writeln!(std::io::stdout(), "\nSKIPPED: a_cleared_variable_is_empty…: not started by cargo");
            return;
        };
        clear(&BTreeSet::from([NAME])).unwrap();
        let mut expected = before.clone();
        expected[at + NAME.len() + 1..at + entry.len()].fill(0);
        assert!(block() == expected);
        assert_eq!(std::env::var(NAME).as_deref(), Ok(""));
    }

    #[test]
    fn the_block_is_found_after_any_name() {
        let fields: Vec<String> = (4..53).map(|field| field.to_string()).collect();
        for name in ["a", "a) S 1", ") ) ("] {
            assert_eq!(block(&format!("7 ({name}) S {}", fields.join(" "))), Some((50, 51)), "{name}");
        }
        assert_eq!(block("7 (a) S 4 5"), None);
    }
}
