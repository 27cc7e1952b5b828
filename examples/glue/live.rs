//! The policy while it is in force: decided by, and loaded again when a file of it changes or somebody says so.
//! Loads through a function of the program's; a policy that does not load leaves the old one in force.
//!
//! Files are looked at by the program, some times a second (`stat`): a watch on a file (inotify) loses it when an
//! editor replaces it, and a watch on folders tells of everything else in them. A change counts once two looks in a
//! row agree, so that a file is not read while it is being written.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use credvault::Vault;
use netproxy::hooks::{AddressFacts, Authorize, ConnectFacts, RequestFacts, Verdict};
use netproxy::{HostName, Proxy};
use policy::ask::{Grants, Question, Scope, TooManyGrants};
use policy::{Current, Live, Ruleset, RulesetBuilder};
use tokio::time::MissedTickBehavior;

use crate::authorize::{Asking, PolicyAuthorize, now};
use crate::keys::{SecretSpec, misfit, policy_for};
use crate::policy_files;
use crate::registries::Machine;

/// Between two looks at the files: a change is in force after one to two of these.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a program's loading gave.
pub struct Loaded {
    /// The rules, or why there are none.
    pub rules: Result<Ruleset, String>,
    /// Every file that was read: a change of one is a reason to load again. If the load failed, as far as it came; what
    /// was read before is watched, too.
    pub files: Vec<PathBuf>,
}

impl Loaded {
    /// From these files, one upon the other; without any, what allows just the places of these keys.
    #[must_use]
    pub fn from(paths: &[PathBuf], secrets: &[SecretSpec], machine: &Machine) -> Self {
        if paths.is_empty() {
            return Self { rules: policy_for(secrets).map_err(|error| error.to_string()), files: Vec::new() };
        }
        let (rules, files) = policy_files::load_watched(RulesetBuilder::new(), paths, machine);
        Self { rules: rules.map_err(|error| error.to_string()), files }
    }

    /// With a reason of its own where the rules do not fit the keys and the upstream proxies (see [`misfit`]).
    #[must_use]
    pub fn fitting(self, vault: &Vault, proxies: &[String]) -> Self {
        let fit = |rules: Ruleset| misfit(&rules, vault, proxies).map_or(Ok(rules), Err);
        Self { rules: self.rules.and_then(fit), ..self }
    }
}

/// Loads the policy from where the program has it.
pub type Load = dyn Fn() -> Loaded + Send + Sync;

/// The policy of a program.
pub struct LivePolicy {
    live: Live,
    load: Box<Load>,
    watch: Mutex<Watch>,
    /// Held by a reload until it is told of: the last to be told of is the one in force.
    reloading: Mutex<()>,
    /// `Some`: somebody can be asked.
    grants: Option<RwLock<Grants>>,
}

/// What became of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// This generation is in force.
    Replaced(u64),
    /// The old policy stays in force, for this reason, told in one line.
    Kept(String),
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced(generation) => {
                write!(f, "the policy was loaded again, as generation {generation}")
            }
            Self::Kept(why) => write!(f, "the policy was not loaded again, the old one stays: {why}"),
        }
    }
}

impl LivePolicy {
    /// Loads for the first time.
    ///
    /// # Errors
    /// Why there is no policy to start with.
    pub fn start(load: impl Fn() -> Loaded + Send + Sync + 'static) -> Result<Self, String> {
        let Loaded { rules, files } = load();
        let watch = Mutex::new(Watch::over(&files));
        Ok(Self {
            live: Live::new(rules?),
            load: Box::new(load),
            watch,
            reloading: Mutex::default(),
            grants: None,
        })
    }

    /// Somebody can be asked about what no rule decides: [`crate::ask::Desk`].
    #[must_use]
    pub fn asking(self, grants: Grants) -> Self {
        Self { grants: Some(RwLock::new(grants)), ..self }
    }

    /// Where a rule for good belongs: the last of these files that grants, since a ceiling is not the user's.
    #[must_use]
    pub fn file_for_rules(&self, files: &[PathBuf]) -> Option<PathBuf> {
        let rules = self.current();
        let is_ceiling = |file: &&PathBuf| rules.ceilings().any(|name| name == file.to_string_lossy());
        files.iter().rev().find(|file| !is_ceiling(file)).cloned()
    }

    /// Allows something for as long as this policy lives, through reloads.
    ///
    /// # Errors
    /// There are too many grants; or nobody was to be asked.
    pub fn grant(&self, question: Question, scope: Scope) -> Result<(), TooManyGrants> {
        let grants = self.grants.as_ref().ok_or(TooManyGrants)?;
        grants.write().unwrap_or_else(PoisonError::into_inner).add(question, scope)
    }

    /// Whether what is in the files now would load. Changes nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn try_load(&self) -> Result<(), String> {
        (self.load)().rules.map(|_| ()).map_err(|why| in_one_line(&why))
    }

    /// Asks the rules of this moment, all of one load.
    fn with<T>(&self, ask: impl FnOnce(&dyn Authorize) -> T) -> T {
        let rules = self.current();
        match &self.grants {
            None => ask(&PolicyAuthorize(&*rules)),
            Some(grants) => {
                let grants = grants.read().unwrap_or_else(PoisonError::into_inner);
                ask(&PolicyAuthorize(Asking { rules: &rules, grants: &grants }))
            }
        }
    }

    /// Tells `proxy` which policy it begins with: the log and the metrics say so.
    pub fn announce(&self, proxy: &Proxy) {
        proxy.policy_replaced(self.current().generation());
    }

    /// Loads again, and tells `proxy` what came of it: open connections that the new policy refuses end.
    pub fn reload(&self, proxy: &Proxy) -> Reloaded {
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = Vec::new();
        let before = self.watch().now();
        let loaded = self.live.load(|| {
            let loaded = (self.load)();
            files = loaded.files;
            loaded.rules
        });
        if let Ok(generation) = &loaded {
            // At once: it decides already.
            proxy.policy_replaced(*generation);
        }
        self.watch().loaded((&files, loaded.is_ok()), &before);
        match loaded {
            Ok(generation) => Reloaded::Replaced(generation),
            Err(why) => {
                let why = in_one_line(&why);
                proxy.policy_not_loaded(&why);
                Reloaded::Kept(why)
            }
        }
    }

    /// Reloads whenever a file has changed, and tells of it; what is open ends with the rule that allowed it. Ends when it is
    /// dropped.
    pub async fn follow(
        self: Arc<Self>,
        proxy: Proxy,
        tell: impl Fn(&Reloaded, &Self) + Clone + Send + 'static,
    ) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = now();
        loop {
            looks.tick().await;
            let until = now();
            if self.current().any_ends(looked, until) {
                proxy.reauthorize();
            }
            looked = until;
            let (policy, proxy, tell) = (Arc::clone(&self), proxy.clone(), tell.clone());
            // Not on the threads that carry traffic: a load may ask other programs (those of package registries)
            // what they are set up to use.
            let look = move || {
                if let Some(reloaded) = policy.look(&proxy) {
                    tell(&reloaded, &policy);
                }
            };
            // A look that panicked was one look.
            let _ = tokio::task::spawn_blocking(look).await;
        }
    }

    /// Reloads if a file has changed.
    fn look(&self, proxy: &Proxy) -> Option<Reloaded> {
        let changed = self.watch().look();
        changed.then(|| self.reload(proxy))
    }

    /// The rules of this moment.
    #[must_use]
    pub fn current(&self) -> Current {
        self.live.current()
    }

    /// What the user must know before anything passes: which files only record what they refuse, if there is a log.
    #[must_use]
    pub fn warning(&self, has_log: bool) -> Option<String> {
        let rules = self.current();
        let names: Vec<_> = rules.audit_layers().collect();
        (!names.is_empty()).then(|| {
            let names = names.join(", ");
            let recorded = match has_log {
                true => "is recorded in the audit log with verdict would_deny",
                false => "is recorded NOWHERE: there is no --audit",
            };
            format!(
                "WARNING: {names} is NOT ENFORCED (mode = \"audit\"): what it refuses passes, without a key, and {recorded}"
            )
        })
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authorize for LivePolicy {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.with(|now| now.connect(facts))
    }

    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        self.with(|now| now.request(facts))
    }

    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.with(|now| now.tcp(facts))
    }

    fn dns_name(&self, name: &HostName) -> Verdict {
        self.with(|now| now.dns_name(name))
    }

    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.with(|now| now.address(facts))
    }
}

/// Without the excerpt of the file, which begins with a line of `|` alone: where it is, stands before.
fn in_one_line(why: &str) -> String {
    why.lines().map(str::trim).take_while(|line| *line != "|").collect::<Vec<_>>().join(" ")
}

/// What tells a file from what it was: a rename or a write changes one of these. `None`: it cannot be looked at.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;
type Stamps = Vec<(PathBuf, Stamp)>;

/// Files, and how they looked when they were loaded.
struct Watch {
    loaded: Stamps,
    last: Stamps,
}

impl Watch {
    fn over(files: &[PathBuf]) -> Self {
        let stamps: Stamps = files.iter().map(|file| (file.clone(), stamp(file))).collect();
        Self { last: stamps.clone(), loaded: stamps }
    }

    fn now(&self) -> Stamps {
        self.loaded.iter().map(|(file, _)| (file.clone(), stamp(file))).collect()
    }

    /// Whether the files differ from what was loaded, and no longer change.
    fn look(&mut self) -> bool {
        let now = self.now();
        let changed = now != self.loaded && now == self.last;
        self.last = now;
        changed
    }

    /// `files` were loaded; those known before looked like `before` then or later. A file that changed while it was
    /// read differs from that at the next look.
    fn loaded(&mut self, (files, whole): (&[PathBuf], bool), before: &Stamps) {
        let mut files = files.to_vec();
        if !whole {
            files.extend(
                before
                    .iter()
                    .map(|(file, _)| file.clone())
                    .filter(|file| !files.contains(file))
                    .collect::<Vec<_>>(),
            );
        }
        let known = |file: &PathBuf| before.iter().find(|(other, _)| other == file).map(|(_, stamp)| *stamp);
        self.loaded =
            files.iter().map(|file| (file.clone(), known(file).unwrap_or_else(|| stamp(file)))).collect();
        self.last.clone_from(&self.loaded);
    }
}

fn stamp(file: &PathBuf) -> Stamp {
    let about = std::fs::metadata(file).ok()?;
    let (written, changed) = ((about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec()));
    Some((about.dev(), about.ino(), about.len(), written, changed))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::testing::host_name;

    fn policy(path: &Path) -> LivePolicy {
        let path = path.to_owned();
        let load = move || Loaded {
            rules: fs::read_to_string(&path)
                .map_err(|error| error.to_string())
                .and_then(|text| Ruleset::parse(&text, "policy.toml").map_err(|error| error.to_string())),
            files: vec![path.clone()],
        };
        LivePolicy::start(load).unwrap()
    }

    fn allowing(host: &str) -> String {
        format!("version = 1\n[[allow]]\nhost = \"{host}\"\n")
    }

    fn allows(policy: &LivePolicy, host: &str) -> bool {
        matches!(policy.dns_name(&host_name(host)), Verdict::Allow(_))
    }

    #[test]
    fn a_changed_file_is_loaded_once_it_no_longer_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        fs::write(&file, allowing("a.example")).unwrap();
        let (policy, proxy) = (policy(&file), Proxy::builder().build().unwrap());
        assert_eq!((policy.look(&proxy), policy.look(&proxy)), (None, None));
        fs::write(&file, "version = 1\n[[allow]]\nhost = \"b.").unwrap();
        assert_eq!(policy.look(&proxy), None, "it may be half written");
        fs::write(&file, allowing("bb.example")).unwrap();
        assert_eq!(policy.look(&proxy), None, "it has changed again");
        assert_eq!(policy.look(&proxy), Some(Reloaded::Replaced(2)));
        assert!(allows(&policy, "bb.example") && !allows(&policy, "a.example"));
        assert_eq!(policy.look(&proxy), None);
        assert!(proxy.metrics_text().contains("policy_generation 2\n"));
    }

    /// A connection that was let in, under a rule that ends.
    #[tokio::test]
    async fn what_is_open_ends_with_its_rule() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        let date = std::process::Command::new("date").args(["-u", "-d", "5 seconds", "+%FT%TZ"]).output();
        let end = String::from_utf8(date.unwrap().stdout).unwrap();
        let end = end.trim();
        let rule = format!(
            "[[allow]]\ncidr = \"127.0.0.1/32\"\nports = [{port}]\ntcp = true\nexpires = \"{end}\"\n"
        );
        fs::write(&file, format!("version = 1\n{rule}")).unwrap();
        let policy = Arc::new(policy(&file));
        let proxy = Proxy::builder().authorize(Arc::clone(&policy)).build().unwrap();
        let following = tokio::spawn(Arc::clone(&policy).follow(proxy.clone(), |_, _| {}));
        let (mut near, far) = tokio::io::duplex(1024);
        let serving = proxy.clone();
        tokio::spawn(async move { serving.serve(far).await });
        let target = format!("127.0.0.1:{port}");
        near.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"hello").await.unwrap();
        let mut all = String::new();
        // The server says no more, and does not end.
        let read = tokio::time::timeout(std::time::Duration::from_secs(60), near.read_to_string(&mut all));
        read.await.expect("it stayed open").unwrap();
        assert!(all.ends_with("\r\n\r\nhello"), "{all}");
        following.abort();
    }

    #[test]
    fn a_broken_or_missing_file_is_told_once_and_the_old_policy_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        fs::write(&file, allowing("a.example")).unwrap();
        let (policy, proxy) = (policy(&file), Proxy::builder().build().unwrap());
        fs::write(&file, "version = 1\n[[allow]]\n").unwrap();
        assert_eq!(policy.look(&proxy), None);
        let Some(Reloaded::Kept(why)) = policy.look(&proxy) else { panic!("it was loaded") };
        assert!(why.starts_with("policy.toml:2:1: rule \"allow-1\": it names no"), "{why}");
        assert!(!why.contains('\n'), "{why}");
        assert_eq!((policy.look(&proxy), policy.look(&proxy)), (None, None));
        fs::remove_file(&file).unwrap();
        assert_eq!(policy.look(&proxy), None);
        assert!(matches!(policy.look(&proxy), Some(Reloaded::Kept(_))));
        assert!(allows(&policy, "a.example"));
        assert!(proxy.metrics_text().contains("errors_total{error=\"policy_not_loaded\"} 2\n"));
        // Replaced by another file of the same name, as editors do.
        let aside = folder.path().join("aside");
        fs::write(&aside, allowing("c.example")).unwrap();
        fs::rename(&aside, &file).unwrap();
        assert_eq!(policy.look(&proxy), None);
        assert_eq!(policy.look(&proxy), Some(Reloaded::Replaced(2)));
        assert!(allows(&policy, "c.example"));
    }

    /// Also one that was never part of a policy that loaded.
    #[test]
    fn a_newly_included_file_is_loaded_once_it_is_there_and_once_it_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let (file, part) = (folder.path().join("policy.toml"), folder.path().join("part.toml"));
        fs::write(&file, allowing("a.example")).unwrap();
        let (paths, machine) = ([file.clone()], Machine::new(&[], folder.path()));
        let policy = LivePolicy::start(move || Loaded::from(&paths, &[], &machine)).unwrap();
        let proxy = Proxy::builder().build().unwrap();
        let becomes = |path: &Path, text: &str| {
            fs::write(path, text).unwrap();
            (policy.look(&proxy), policy.look(&proxy)).1
        };
        let kept = |reloaded| matches!(reloaded, Some(Reloaded::Kept(_)));
        assert!(kept(becomes(&file, "version = 1\ninclude = \"part.toml\"\n")), "it is not there");
        assert!(kept(becomes(&part, "version = 1\n[[allow]]\n")), "it is broken");
        assert_eq!(becomes(&part, &allowing("b.example")), Some(Reloaded::Replaced(2)));
        assert!(allows(&policy, "b.example"));
    }

    #[test]
    fn a_reload_that_was_asked_for_does_not_wait_for_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        fs::write(&file, allowing("a.example")).unwrap();
        let (policy, proxy) = (policy(&file), Proxy::builder().build().unwrap());
        assert_eq!(policy.reload(&proxy), Reloaded::Replaced(2));
        fs::write(&file, allowing("other.example")).unwrap();
        assert_eq!(policy.reload(&proxy), Reloaded::Replaced(3));
        assert_eq!((policy.look(&proxy), policy.look(&proxy)), (None, None));
    }
}
