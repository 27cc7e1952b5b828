//! Values of keys while a sandbox runs: fetched once at its start, and looked at again later, so that a key that was
//! replaced in its store reaches a sandbox that is running.
//!
//! ```text
//! vault  version or end changed in the store ─▶ read it      env   never again: a process cannot be told
//! file   another time, size or inode         ─▶ read it      cmd   only with a time: `cmd/15m:…`
//! ```
//!
//! Must never read a value to find out whether there is a new one, and never go on to another source: where the new
//! value cannot be had, the old one stays until its own end, and that is reported once.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use credvault::limits::COMMAND_MS_MAX;
use credvault::{CommandSource, MemoryStore, Secret, Source, StoreError, Vault};

use netproxy::hooks::BoxFuture;

use crate::keys::{SecretSource, SecretSpec, Value};
use crate::stores::{OpenError, Opened, StoreArgs};
use crate::unlock::Unlocked;

/// Gives the value of a variable of the program's own environment.
pub type Environment = Box<dyn Fn(&str) -> Option<Secret> + Send + Sync>;

/// Where the values of all `--secret` come from. The store is opened when the first key is wanted from it.
pub struct Sources {
    stores: StoreArgs,
    opened: OnceLock<Opened>,
    environment: Environment,
    commands: Mutex<BTreeMap<String, Arc<CommandSource>>>,
}

impl Sources {
    /// Nothing is opened or run yet.
    #[must_use]
    pub fn new(stores: StoreArgs, environment: Environment) -> Self {
        Self { stores, opened: OnceLock::new(), environment, commands: Mutex::default() }
    }

    /// The store, if a key came from one: to be shown.
    #[must_use]
    pub fn in_use(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// The value of one key, now.
    ///
    /// # Errors
    /// What is wrong, worded for the user; never a value, nor what may be one by mistake.
    pub fn value(&self, spec: &SecretSpec) -> Result<Value, String> {
        let secret = match &spec.source {
            SecretSource::Vault => return self.stored(&spec.name),
            SecretSource::HostEnvironment(variable) => {
                let unset =
                    "the variable named after `=` is not set (a key itself never stands on a command line)";
                (self.environment)(variable).ok_or(unset)?
            }
            SecretSource::File(path) => Source::File(path.clone())
                .fetch(&spec.name, &MemoryStore::new())
                .map_err(|error| error.to_string())?,
            SecretSource::Command { words, keep_s } => self.answer(&spec.name, words, *keep_s)?,
        };
        Ok(Value::Is { secret, not_after_s: None })
    }

    fn stored(&self, name: &str) -> Result<Value, String> {
        let opened = match self.store() {
            Err(OpenError::Locked(_)) => return Ok(Value::Locked),
            other => other.map_err(|error| error.to_string())?,
        };
        match opened.store.fetch(name) {
            Ok((secret, stored)) => Ok(Value::Is { secret, not_after_s: stored.not_after_s }),
            Err(StoreError::Locked { .. }) => Ok(Value::Locked),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Tries again to get a key whose store was locked when the sandbox started, for each request that needs it; the
    /// user is not asked for anything then, as the sandbox decides when that happens.
    pub fn unlock(
        self: &Arc<Self>,
        specs: &[SecretSpec],
    ) -> impl Fn(String) -> BoxFuture<'static, Option<Unlocked>> + Send + Sync + 'static {
        self.stores.stop_asking();
        let (sources, specs) = (Arc::clone(self), specs.to_vec());
        move |name| {
            let spec = specs.iter().find(|spec| spec.name == name).cloned();
            let sources = Arc::clone(&sources);
            // The store's calls block.
            let fetch = move || match sources.value(&spec?) {
                Ok(Value::Is { secret, not_after_s }) => Some((secret, not_after_s)),
                _ => None,
            };
            Box::pin(async move { tokio::task::spawn_blocking(fetch).await.ok().flatten() })
        }
    }

    fn store(&self) -> Result<&Opened, OpenError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = self.stores.open()?;
        Ok(self.opened.get_or_init(|| opened))
    }

    fn answer(&self, name: &str, words: &[String], keep_s: Option<u64>) -> Result<Secret, String> {
        let command = {
            let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
            let known = match commands.get(name) {
                Some(command) => Arc::clone(command),
                None => CommandSource::new(words.to_vec(), COMMAND_MS_MAX, keep_s.unwrap_or(0))
                    .map(Arc::new)
                    .map_err(|error| error.to_string())?,
            };
            commands.insert(name.to_owned(), Arc::clone(&known));
            known
        };
        // Without the lock: other keys do not wait for this one's command.
        let answer = command.fetch(credvault::os_clock()).map_err(|error| error.to_string())?;
        Ok(answer.duplicate())
    }

    /// What tells, without reading the value, that there may be a new one; `None` where that is never asked.
    fn mark(&self, spec: &SecretSpec) -> Result<Option<Mark>, String> {
        match &spec.source {
            SecretSource::Vault => {
                let opened = self.store().map_err(|error| error.to_string())?;
                let entries = opened.store.entries().map_err(|error| error.to_string())?;
                let found = entries.into_iter().find(|stored| stored.name == spec.name);
                let gone = || "it is no longer in the store".to_owned();
                found.map(|stored| Some(Mark::Stored(stored.version, stored.not_after_s))).ok_or_else(gone)
            }
            SecretSource::File(path) => file_mark(path).map(Some),
            SecretSource::Command { keep_s: Some(_), .. } => Ok(Some(Mark::Ask)),
            SecretSource::Command { keep_s: None, .. } | SecretSource::HostEnvironment(_) => Ok(None),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mark {
    Stored(u64, Option<u64>),
    File {
        inode: u64,
        bytes: u64,
        changed: (i64, i64),
    },
    /// The source itself knows whether its answer is too old.
    Ask,
}

fn file_mark(path: &Path) -> Result<Mark, String> {
    let meta = std::fs::metadata(path).map_err(|error| format!("the file cannot be looked at: {error}"))?;
    Ok(Mark::File { inode: meta.ino(), bytes: meta.len(), changed: (meta.mtime(), meta.mtime_nsec()) })
}

/// What happened to a key of a running sandbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A new value is in use: its number in this sandbox.
    Renewed(String, u64),
    /// A new value could not be had; said once for each problem.
    Kept(String, String),
}

impl Event {
    /// For the user.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Renewed(name, version) => {
                format!("secret {name}: a new value is in use (version {version} here)")
            }
            Self::Kept(name, problem) => {
                format!("secret {name}: looked for a new value in vain, the old one stays: {problem}")
            }
        }
    }
}

/// Looks at the sources again.
pub struct Refresher {
    vault: Arc<Vault>,
    sources: Arc<Sources>,
    keys: Vec<(SecretSpec, Option<Mark>)>,
    problems: BTreeMap<String, String>,
}

impl Refresher {
    /// For keys whose values are in `vault`, and came from `sources` just now.
    #[must_use]
    pub fn new(vault: Arc<Vault>, specs: &[SecretSpec], sources: Arc<Sources>) -> Self {
        sources.stores.stop_asking();
        let mut keys: Vec<(SecretSpec, Option<Mark>)> = Vec::new();
        for spec in specs {
            if !keys.iter().any(|(other, _)| other.name == spec.name) {
                // Without a mark the first look reads the value: it may have changed since it was fetched.
                keys.push((spec.clone(), None));
            }
        }
        Self { vault, sources, keys, problems: BTreeMap::new() }
    }

    /// Fetches what is new and puts it into use.
    pub fn refresh(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for (spec, seen) in &mut self.keys {
            let name = &spec.name;
            match renew(&self.vault, &self.sources, spec, seen) {
                Ok(version) => {
                    self.problems.remove(name);
                    events.extend(version.map(|version| Event::Renewed(name.clone(), version)));
                }
                Err(problem) => {
                    if self.problems.insert(name.clone(), problem.clone()).as_ref() != Some(&problem) {
                        events.push(Event::Kept(name.clone(), problem));
                    }
                }
            }
        }
        events
    }

    /// Does so `every` so often, and at once when told, in a thread that ends with the handle. Zero: only when told.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        mut self,
        every: Duration,
        report: impl Fn(Event) + Send + 'static,
    ) -> std::io::Result<RefreshHandle> {
        let (sender, receiver) = channel();
        let every = if every.is_zero() { Duration::MAX } else { every };
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            while !matches!(receiver.recv_timeout(every), Err(RecvTimeoutError::Disconnected)) {
                self.refresh().into_iter().for_each(&report);
            }
        })?;
        Ok(RefreshHandle(sender))
    }
}

fn renew(
    vault: &Vault,
    sources: &Sources,
    spec: &SecretSpec,
    seen: &mut Option<Mark>,
) -> Result<Option<u64>, String> {
    let Some(mark) = sources.mark(spec)? else { return Ok(None) };
    if *seen == Some(mark) && mark != Mark::Ask {
        return Ok(None);
    }
    let Value::Is { secret, not_after_s } = sources.value(spec)? else {
        return Err("its store is locked".to_owned());
    };
    let version = vault.renew(&spec.name, secret, not_after_s).map_err(|error| error.to_string())?;
    *seen = Some(mark);
    Ok(version)
}

/// Ends the looking when dropped.
pub struct RefreshHandle(Sender<()>);

impl RefreshHandle {
    /// Looks now.
    pub fn now(&self) {
        // The thread ends only with this handle.
        let _ = self.0.send(());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use credvault::{AgeFileStore, AgeKey, Injection, Store};

    use super::*;
    use crate::stores::StoreSpec;

    const FIRST: &str = "first-value-0123456789";
    const SECOND: &str = "second-value-0123456789";

    fn spec(source: SecretSource) -> SecretSpec {
        SecretSpec { name: "K".to_owned(), source, host: "api.example".to_owned(), port: 443 }
    }

    fn refresher(stores: StoreArgs, specs: &[SecretSpec]) -> (Arc<Vault>, Refresher) {
        let sources = Arc::new(Sources::new(stores, Box::new(|_| Some(Secret::new(FIRST.into())))));
        let vault = crate::keys::vault(specs, |_| Injection::bearer(), |spec| sources.value(spec)).unwrap();
        let vault = Arc::new(vault);
        (vault.clone(), Refresher::new(vault, specs, sources))
    }

    fn write(path: &Path, text: &str) {
        // Another inode, as every careful writer makes it.
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }

    #[test]
    fn a_file_is_read_again_when_it_changed_and_kept_when_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, FIRST);
        let (vault, mut refresher) =
            refresher(StoreArgs::default(), &[spec(SecretSource::File(path.clone()))]);
        assert_eq!(refresher.refresh(), []);
        write(&path, SECOND);
        assert_eq!(refresher.refresh(), [Event::Renewed("K".into(), 2)]);
        assert!(vault.scrub_value(SECOND.as_bytes()).is_some());
        write(&path, "bad");
        let [Event::Kept(_, problem)] = &refresher.refresh()[..] else { panic!("kept") };
        assert!(problem.contains("shorter") && !problem.contains("bad"), "{problem}");
        assert_eq!(refresher.refresh(), [], "said once");
        fs::remove_file(&path).unwrap();
        assert!(matches!(&refresher.refresh()[..], [Event::Kept(..)]));
        assert_eq!(vault.version("K"), Some((2, None)));
    }

    #[test]
    fn a_stored_key_is_renewed_with_its_end_and_a_deleted_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, identity) = (folder.path().join("s.age"), folder.path().join("identity"));
        let text = AgeKey::new_identity();
        write(&identity, std::str::from_utf8(text.expose()).unwrap());
        let key = AgeKey::Identity(text);
        let store = AgeFileStore::new(&path, key);
        store.put("K", &Secret::new(FIRST.into())).unwrap();
        let stores = StoreArgs::of(StoreSpec::AgeFile(path), Some(identity));
        let (vault, mut refresher) = refresher(stores, &[spec(SecretSource::Vault)]);
        assert_eq!(refresher.refresh(), []);
        store.put_until("K", &Secret::new(SECOND.into()), Some(4_000_000_000)).unwrap();
        assert_eq!(refresher.refresh(), [Event::Renewed("K".into(), 2)]);
        assert_eq!(vault.version("K"), Some((2, Some(4_000_000_000))));
        // The same value stored again is nothing new for the sandbox.
        store.put_until("K", &Secret::new(SECOND.into()), Some(4_000_000_000)).unwrap();
        assert_eq!(refresher.refresh(), []);
        store.delete("K").unwrap();
        assert!(matches!(&refresher.refresh()[..], [Event::Kept(..)]));
        assert_eq!(vault.version("K").unwrap().0, 2);
    }

    #[test]
    fn a_command_is_run_again_only_with_a_time_and_a_variable_never() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = format!("echo x >> {}; echo {FIRST}", log.display());
        let words = ["sh", "-c", &script].map(str::to_owned).to_vec();
        let runs = || fs::read_to_string(&log).unwrap().lines().count();
        for (keep_s, expected) in [(None, 1), (Some(0), 3), (Some(3_600), 4)] {
            let specs = [spec(SecretSource::Command { words: words.clone(), keep_s })];
            let (_, mut refresher) = refresher(StoreArgs::default(), &specs);
            assert_eq!(refresher.refresh(), []);
            assert_eq!(runs(), expected, "{keep_s:?}");
        }
        let specs = [spec(SecretSource::HostEnvironment("V".into()))];
        assert_eq!(refresher(StoreArgs::default(), &specs).1.refresh(), []);
    }

    #[test]
    fn a_command_does_not_wait_for_that_of_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let done = folder.path().join("done");
        let named = |name: &str, script: String| {
            let words = ["sh", "-c", &script].map(str::to_owned).to_vec();
            SecretSpec { name: name.to_owned(), ..spec(SecretSource::Command { words, keep_s: None }) }
        };
        let (started, done) = (done.with_extension("started"), done.display());
        // The first ends once the second ran; if that waits for it, both wait until the limit.
        let first =
            format!("echo > {}; until [ -e {done} ]; do sleep 0.01; done; echo {FIRST}", started.display());
        let (first, second) = (named("A", first), named("B", format!("echo > {done}; echo {SECOND}")));
        let sources = Sources::new(StoreArgs::default(), Box::new(|_| None));
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| sources.value(&first).map(|_| ()));
            while !started.exists() && !slow.is_finished() {
                std::thread::yield_now();
            }
            sources.value(&second).unwrap();
            assert_eq!(slow.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn a_thread_looks_when_told_and_ends_with_its_handle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, FIRST);
        let (_, refresher) = refresher(StoreArgs::default(), &[spec(SecretSource::File(path.clone()))]);
        let (sender, events) = channel();
        let handle = refresher.start(Duration::ZERO, move |event| sender.send(event).unwrap()).unwrap();
        write(&path, SECOND);
        handle.now();
        assert_eq!(events.recv().unwrap(), Event::Renewed("K".into(), 2));
        drop(handle);
        assert!(events.recv().is_err(), "the thread is gone");
    }
}
