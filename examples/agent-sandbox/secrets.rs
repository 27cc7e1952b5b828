//! Keys on the host: where `--secret` finds them, and the `secret` verb. A value never leaves `Secret`.

use credvault::{Injection, Secret, SecretServiceStore, Store, StoreError, Vault};
use glue::keys::{self, SecretSource, SecretSpec, Value};
use serde_json::json;

use crate::cli::{SecretArgs, SecretVerb};
use crate::error::{Error, Result};
use crate::report;
use crate::terminal::HiddenInput;

/// Name under which our entries stand in the user's keyring.
const APPLICATION: &str = "agent-sandbox";

/// The credentials of one sandbox.
pub struct Keyed {
    pub vault: Vault,
    /// Names of those whose store is locked.
    pub locked: Vec<String>,
}

impl Keyed {
    /// Fetches every value and mints its placeholder.
    pub fn resolve(specs: &[SecretSpec]) -> Result<Self> {
        let mut locked = Vec::new();
        let value_of = |spec: &SecretSpec| {
            let value = value_of(spec)?;
            if matches!(value, Value::Locked) {
                locked.push(spec.name.clone());
            }
            Ok(value)
        };
        let vault = keys::vault(specs, |_| Injection::replace(), value_of)?;
        Ok(Self { vault, locked })
    }

    /// One credential with a known value, for the demo.
    pub fn fixed(name: &str, value: &[u8], host: &str, port: u16) -> Result<Self> {
        let spec =
            SecretSpec { name: name.to_owned(), source: SecretSource::Vault, host: host.to_owned(), port };
        let value = |_: &SecretSpec| Ok(Value::Is(Secret::new(value.to_vec())));
        Ok(Self { vault: keys::vault(&[spec], |_| Injection::replace(), value)?, locked: Vec::new() })
    }

    pub fn placeholder(&self, name: &str) -> Option<String> {
        self.vault.placeholder(name).map(|placeholder| placeholder.as_str().to_owned())
    }
}

/// The `secret` verb.
pub fn manage(args: &SecretArgs) -> Result<u8> {
    let store = keyring()?;
    // Before anybody types a key that could not be kept.
    store.probe().map_err(|error| problem("keyring", &error.to_string()))?;
    match &args.verb {
        SecretVerb::Set { name } => {
            if !credvault::is_env_name(name) {
                return Err(problem(name, "a name is also a variable of the sandbox: letters, digits and _"));
            }
            store.put(name, &read_value()?).map_err(|error| problem(name, &error.to_string()))?;
            say(args.json, &format!("stored {name} in {}", store.describe()), json!({ "stored": name }))?;
        }
        SecretVerb::Rm { name } => {
            store.delete(name).map_err(|error| problem(name, &error.to_string()))?;
            say(args.json, &format!("removed {name} from {}", store.describe()), json!({ "removed": name }))?;
        }
        SecretVerb::Ls => {
            let names = store.list().map_err(|error| problem("list", &error.to_string()))?;
            say(args.json, &names.join("\n"), json!({ "names": names, "store": store.describe() }))?;
        }
    }
    Ok(0)
}

/// The user's keyring; which one it is, is always shown.
pub fn keyring() -> Result<SecretServiceStore> {
    SecretServiceStore::new(APPLICATION).map_err(|error| problem("keyring", &error.to_string()))
}

fn say(as_json: bool, text: &str, object: serde_json::Value) -> Result<()> {
    match as_json {
        true => report::print(&object.to_string()),
        false if text.is_empty() => Ok(()),
        false => report::print(text),
    }
}

/// The value of a credential whose keyring was locked when the sandbox started; `None` while it still is, and for
/// any other reason why it cannot be had. Blocks.
pub fn unlocked(name: &str) -> Option<Secret> {
    keyring().ok()?.get(name).ok()
}

fn value_of(spec: &SecretSpec) -> Result<Value, String> {
    match &spec.source {
        SecretSource::Vault => match keyring().map_err(|error| error.to_string())?.get(&spec.name) {
            Ok(value) => Ok(Value::Is(value)),
            Err(StoreError::Locked { .. }) => Ok(Value::Locked),
            Err(error) => Err(error.to_string()),
        },
        SecretSource::HostEnvironment(variable) => match std::env::var_os(variable) {
            Some(value) => Ok(Value::Is(Secret::new(std::os::unix::ffi::OsStringExt::into_vec(value)))),
            None => Err("the variable named after `=` is not set on this host".to_owned()),
        },
    }
}

/// From standard input, never an argument: arguments are visible to every user of the host.
fn read_value() -> Result<Secret> {
    let hidden = HiddenInput::begin();
    if hidden.is_some() {
        eprint!("value (not shown; end with Enter, then Ctrl-D): ");
    }
    let value = Secret::read(std::io::stdin().lock()).map_err(Error::io("cannot read the value"))?;
    drop(hidden);
    if value.is_empty() {
        let remedy = "standard input was empty; try: printf %s \"$KEY\" | agent-sandbox secret set NAME";
        return Err(problem("value", remedy));
    }
    Ok(value)
}

fn problem(name: &str, problem: &str) -> Error {
    Error::Secret { name: name.to_owned(), problem: problem.to_owned() }
}
