//! Keys out of the environment.
//!
//! A process cannot take its environment back: what it was started with stays readable in `/proc/PID/environ`, and
//! goes to every child. So this program starts itself anew, same process id, without the variables that held keys,
//! and hands the values over in a pipe on standard input: per variable, in the order of their names, four bytes of
//! length (little endian) and the value. Must never print a value, or the text that was meant as a variable's name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use credvault::Secret;
use glue::keys::{KeyError, SecretSource};

use crate::error::{Error, Result};
use crate::options::Options;

/// All values together must fit into the pipe (64 KiB), as nobody reads it before the whole of it is written.
const VALUES_BYTES_MAX: usize = 60 * 1024;

/// Values by the name of their variable.
pub type Values = BTreeMap<String, Secret>;

/// The values of all `--secret` and `--upstream-proxy`; does not return the first time, if there are any.
pub fn take(options: &Options) -> Result<Values> {
    let variables = variables(options);
    if options.keys_on_stdin {
        return receive(&variables).map_err(Error::io("the keys did not come through"));
    }
    if variables.is_empty() { Ok(Values::new()) } else { Err(start_anew(options, &variables)) }
}

fn variables(options: &Options) -> BTreeSet<&str> {
    let of_proxies = options.upstream_proxies.iter().map(|(_, variable)| variable.as_str());
    let sources = options.secrets.iter().map(|spec| &spec.source);
    let sources = sources.chain(options.service.iter().map(|spec| &spec.source));
    sources.filter_map(variable_of).chain(of_proxies).collect()
}

/// The variable that holds the value, if one does.
fn variable_of(source: &SecretSource) -> Option<&str> {
    match source {
        SecretSource::HostEnvironment(variable) => Some(variable),
        SecretSource::Vault | SecretSource::File(_) | SecretSource::Command { .. } => None,
    }
}

fn problem(name: &str, problem: &str) -> KeyError {
    KeyError { name: name.to_owned(), problem: problem.to_owned() }
}

/// Returns only if it failed. What was copied meanwhile goes with the memory of this image.
fn start_anew(options: &Options, variables: &BTreeSet<&str>) -> Error {
    let mut frames = Vec::new();
    for variable in variables {
        let Some(value) = std::env::var_os(variable) else {
            if let Some((name, _)) = options.upstream_proxies.iter().find(|(_, given)| given == variable) {
                return Error::Usage(format!("--upstream-proxy {name}: its variable is not set"));
            }
            let secrets = options.secrets.iter().map(|spec| (&spec.name, &spec.source));
            let services = options.service.iter().map(|spec| (&spec.name, &spec.source));
            let unset = secrets.chain(services).find(|(_, source)| variable_of(source) == Some(variable));
            let text =
                "the variable named after `=` is not set (a key itself never stands on a command line)";
            return unset
                .map_or_else(|| Error::Usage(text.to_owned()), |(name, _)| problem(name, text).into());
        };
        let value = value.into_vec();
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        frames.extend(length.to_le_bytes());
        frames.extend(value);
    }
    if frames.len() > VALUES_BYTES_MAX {
        return Error::Usage(format!(
            "the values of --secret are longer than {VALUES_BYTES_MAX} bytes together"
        ));
    }
    match exec(&frames, variables) {
        Ok(never) => match never {},
        Err(source) => {
            Error::io("the program cannot start itself without the keys in its environment")(source)
        }
    }
}

fn exec(frames: &[u8], variables: &BTreeSet<&str>) -> std::io::Result<std::convert::Infallible> {
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(frames)?;
    drop(writer);
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "inject-proxy".into());
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).args(arguments).arg("--keys-on-stdin").stdin(reader);
    for variable in variables {
        command.env_remove(variable);
    }
    Err(command.exec())
}

/// Unbuffered, so that no copy of a value stays in the standard library's buffer.
fn receive(variables: &BTreeSet<&str>) -> std::io::Result<Values> {
    let mut input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut values = Values::new();
    for variable in variables {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > VALUES_BYTES_MAX {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a frame is too long"));
        }
        let mut value = vec![0; length];
        input.read_exact(&mut value)?;
        values.insert((*variable).to_owned(), Secret::new(value));
    }
    Ok(values)
}
