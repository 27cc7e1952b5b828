//! Keys of one sandbox: where `--secret` finds them, and how a new value reaches it while it runs. A value never
//! leaves `Secret`.

use std::sync::Arc;
use std::time::Duration;

use credvault::{Injection, Secret, TokenSource, Vault};
use glue::keys::{self, SecretSource, SecretSpec, Value};
use glue::services::Chosen;
use glue::sources::{RefreshHandle, Refresher, Sources};
use glue::stores::StoreArgs;
use glue::tokens::{Keep, Report};
use serde_json::json;

use crate::cli::RunArgs;
use crate::environ::Values;
use crate::error::{Error, Result};
use crate::report::Style;

/// The credentials of one sandbox.
pub struct Keyed {
    pub vault: Arc<Vault>,
    /// Names of those whose store is locked.
    pub locked: Vec<String>,
    pub specs: Vec<SecretSpec>,
    pub sources: Arc<Sources>,
    /// Of tokens that are renewed, by name.
    pub tokens: Vec<(String, TokenSource)>,
    /// What happens to refresh tokens that replace stored ones.
    pub keep: Keep,
    /// How renewals end that the guest asked for.
    pub report: Report,
    /// Looks for new values for as long as the sandbox runs.
    _refresh: Option<RefreshHandle>,
}

impl Keyed {
    /// Fetches every value, mints its placeholder, and says which store is in use.
    pub fn resolve(args: &RunArgs, chosen: &Chosen, values: Values, style: Style) -> Result<Self> {
        // A second secret from the same variable gets a copy; the vault holds both in locked memory.
        let environment = move |variable: &str| values.get(variable).map(Secret::duplicate);
        let sources = Arc::new(Sources::new(args.stores.clone(), Box::new(environment)));
        let mut locked = Vec::new();
        let mut value_of = |spec: &SecretSpec| {
            let value = sources.value(spec)?;
            if matches!(value, Value::Locked) {
                locked.push(spec.name.clone());
            }
            Ok(value)
        };
        let mut builder = Vault::builder();
        keys::bind(&mut builder, &args.secrets, |_| Injection::replace(), &mut value_of)?;
        let tokens = glue::services::bind(&mut builder, chosen, value_of)?;
        let vault = Arc::new(builder.build());
        let specs = [&args.secrets[..], &glue::services::sent_as_stored(chosen)].concat();
        if let Some(opened) = sources.in_use() {
            let text = format!("keys from {}", opened.describe());
            style.say("store", &text, json!({ "store": opened.store.describe(), "passed": opened.passed }));
        }
        let every = Duration::from_secs(args.refresh_secrets);
        let mut refresh = None;
        if !every.is_zero() && !specs.is_empty() {
            let report = move |event: glue::sources::Event| {
                style.say("secret", &event.text(), json!({ "message": event.text() }));
            };
            let refresher = Refresher::new(vault.clone(), &specs, sources.clone());
            let failed = Error::io("the thread that looks for new keys cannot be started");
            refresh = Some(refresher.start(every, report).map_err(failed)?);
        }
        let report: Report =
            Arc::new(move |text: String| style.say("secret", &text, json!({ "message": text })));
        let keep = glue::tokens::keep_in_store(&sources, chosen, report.clone());
        Ok(Self { vault, locked, specs, sources, tokens, keep, report, _refresh: refresh })
    }

    /// One credential with a known value, for the demo.
    pub fn fixed(name: &str, value: &[u8], host: &str, port: u16) -> Result<Self> {
        let spec =
            SecretSpec { name: name.to_owned(), source: SecretSource::Vault, host: host.to_owned(), port };
        let value = |_: &SecretSpec| Ok(Value::Is { secret: Secret::new(value.to_vec()), not_after_s: None });
        let vault = Arc::new(keys::vault(&[spec], |_| Injection::replace(), value)?);
        let sources = Arc::new(Sources::new(StoreArgs::default(), Box::new(|_| None)));
        let (locked, specs, tokens) = (Vec::new(), Vec::new(), Vec::new());
        let (keep, report): (Keep, Report) = (Arc::new(|_, _| ()), Arc::new(|_| ()));
        Ok(Self { vault, locked, specs, sources, tokens, keep, report, _refresh: None })
    }

    pub fn placeholder(&self, name: &str) -> Option<String> {
        self.vault.placeholder(name).map(|placeholder| placeholder.as_str().to_owned())
    }
}
