//! Where a value comes from, said explicitly: a store, a variable or file of the host, or a command.
//!
//! Must never start a shell, take a value from a place that was not named, or go on to another place when one
//! fails.

#[cfg(unix)]
mod command;
#[cfg(not(unix))]
mod elsewhere;
#[cfg(unix)]
mod file;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{COMMAND_MS_MAX, COMMAND_WORDS_MAX};
use crate::secret::Secret;
use crate::store::{Store, StoreError};

#[cfg(not(unix))]
use elsewhere::{read_file, run};
#[cfg(unix)]
use {command::run, file::read_file};

/// Where a value comes from. Written as `store`, `env:VARIABLE`, `file:/absolute/path`, or
/// `cmd:PROGRAM ARGUMENT …` (`cmd:op read op://vault/item/field`, `cmd:pass show x`, `cmd:gh auth token`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The store in use.
    Store,
    /// A variable of this process. It stays readable in `/proc/PID/environ` for the user's own processes.
    Env(String),
    /// A file of the host, in the clear; refused unless it belongs to this user and nobody else may read it, which
    /// only Unix can tell: elsewhere it is always refused.
    File(PathBuf),
    /// A program and its arguments; no shell reads them. The first line end is not part of the value. Only on Unix,
    /// which can end all that a program started.
    Command(Vec<String>),
}

/// Why a value could not be had. No variant holds it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Not one of the forms.
    #[error(
        "source is not understood: write `store`, `env:VARIABLE`, `file:/path` or `cmd:PROGRAM ARGUMENT …`"
    )]
    Form,
    /// The store said why.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The variable is not set.
    #[error("the variable `{0}` is not set here: set it, or take the value from a store")]
    Unset(String),
    /// The file.
    #[error("the file `{path}` cannot be read: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Others may read the file, or it is not this user's.
    #[error(
        "the file `{path}` is refused: {detail}; make it a regular file of your own with mode 0600, and change its value"
    )]
    Exposed {
        /// Which.
        path: String,
        /// Who can.
        detail: &'static str,
    },
    /// The command could not be started.
    #[error("`{program}` cannot be started: {error}; install it, or write its whole path")]
    Start {
        /// Which.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// The command did not give a value.
    #[error("`{program}` ended without a value ({status}): run it by hand to see what it says")]
    Failed {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
    },
    /// The command was killed.
    #[error(
        "`{program}` took longer than {limit_ms} ms and was ended: it may be waiting for a question to be answered"
    )]
    Timeout {
        /// Which.
        program: String,
        /// The limit.
        limit_ms: u64,
    },
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "store" if rest.is_empty() => Ok(Self::Store),
            "env" if crate::binding::is_env_name(rest) => Ok(Self::Env(rest.to_owned())),
            "file" if rest.starts_with('/') => Ok(Self::File(PathBuf::from(rest))),
            "cmd" => {
                let words: Vec<String> = rest.split_ascii_whitespace().map(str::to_owned).collect();
                let fits = (1..=COMMAND_WORDS_MAX).contains(&words.len());
                if fits { Ok(Self::Command(words)) } else { Err(SourceError::Form) }
            }
            _ => Err(SourceError::Form),
        }
    }
}

impl Source {
    /// Fetches the value of credential `name`. May block for [`COMMAND_MS_MAX`].
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn fetch(&self, name: &str, store: &dyn Store) -> Result<Secret, SourceError> {
        match self {
            Self::Store => Ok(store.get(name)?),
            Self::Env(variable) => {
                let value = std::env::var_os(variable).ok_or_else(|| SourceError::Unset(variable.clone()))?;
                Ok(Secret::new(value.into_encoded_bytes()))
            }
            Self::File(path) => read_file(path),
            Self::Command(words) => run(words, COMMAND_MS_MAX),
        }
    }

    /// In words, for the user.
    #[must_use]
    pub fn describe(&self, store: &dyn Store) -> String {
        match self {
            Self::Store => store.describe(),
            Self::Env(variable) => format!("host variable {variable} (in the clear)"),
            Self::File(path) => format!("host file {} (in the clear)", path.display()),
            Self::Command(words) => format!("command {}", words.first().map_or("", String::as_str)),
        }
    }
}

/// A command whose answer is kept for a time, as each call may ask the user for a fingerprint.
pub struct CommandSource {
    words: Vec<String>,
    timeout_ms: u64,
    cache_s: u64,
    kept: Mutex<Option<(u64, Arc<Secret>)>>,
}

impl CommandSource {
    /// Runs `words` (program and arguments) for at most `timeout_ms`, and keeps the value `cache_s` seconds.
    ///
    /// # Errors
    /// [`SourceError::Form`] without a program.
    pub fn new(words: Vec<String>, timeout_ms: u64, cache_s: u64) -> Result<Self, SourceError> {
        if !(1..=COMMAND_WORDS_MAX).contains(&words.len()) {
            return Err(SourceError::Form);
        }
        Ok(Self { words, timeout_ms: timeout_ms.min(COMMAND_MS_MAX), cache_s, kept: Mutex::new(None) })
    }

    /// The value, from the command unless it was asked less than `cache_s` before `now_s`.
    ///
    /// # Errors
    /// [`SourceError`]; a value that is too old is not served then.
    pub fn fetch(&self, now_s: u64) -> Result<Arc<Secret>, SourceError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, value)) = &*kept
            && now_s.checked_sub(*at).is_some_and(|age| age < self.cache_s)
        {
            return Ok(Arc::clone(value));
        }
        *kept = None;
        let value = Arc::new(run(&self.words, self.timeout_ms)?);
        *kept = (self.cache_s > 0).then(|| (now_s, Arc::clone(&value)));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use rustix::fs::{FileType, Mode};
    use rustix::process::{Pid, Signal};

    use super::*;
    use crate::store::MemoryStore;

    fn command(words: &[&str], timeout_ms: u64) -> Result<Secret, SourceError> {
        run(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), timeout_ms)
    }

    #[test]
    fn forms_are_read_and_others_refused() {
        for (text, source) in [
            ("store", Source::Store),
            ("env:GH_TOKEN", Source::Env("GH_TOKEN".into())),
            ("file:/run/secrets/key", Source::File("/run/secrets/key".into())),
            ("cmd:op read op://a/b", Source::Command(["op", "read", "op://a/b"].map(str::to_owned).to_vec())),
        ] {
            assert_eq!(text.parse::<Source>().unwrap(), source);
        }
        for bad in ["", "sk-ant-api03-a-key", "env:", "env:A B", "file:relative", "cmd:", "cmd: ", "store:x"]
        {
            let error = bad.parse::<Source>().unwrap_err();
            assert!(!error.to_string().contains("sk-ant"), "{error}");
        }
    }

    #[test]
    fn each_source_gives_its_value_and_no_other_is_tried() {
        let store = MemoryStore::new();
        store.put("a", &Secret::new(b"from the store".to_vec())).unwrap();
        assert!(Source::Store.fetch("a", &store).unwrap().expose() == b"from the store");
        let missing = Source::Env("CREDVAULT_SURELY_UNSET".into()).fetch("a", &store).map(|_| ());
        assert!(matches!(missing, Err(SourceError::Unset(_))));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(Source::File(path.clone()).fetch("a", &store), Err(SourceError::File { .. })));
        std::fs::write(&path, "from a file\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        for open in [0o644, 0o640, 0o602] {
            mode(open);
            let error = Source::File(path.clone()).fetch("a", &store).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("0600"), "{open:o}: {error}");
        }
        mode(0o600);
        assert!(Source::File(path).fetch("a", &store).unwrap().expose() == b"from a file");
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(matches!(Source::File(fifo).fetch("a", &store), Err(SourceError::Exposed { .. })));
    }

    #[test]
    fn a_commands_words_reach_it_as_they_are() {
        let value = command(&["printf", "%s\\n", "$HOME;`id`"], 10_000).unwrap();
        assert_eq!(value.expose(), b"$HOME;`id`");
    }

    #[test]
    fn a_command_that_fails_says_nothing_or_does_not_exist_is_an_error() {
        assert!(matches!(command(&["false"], 10_000), Err(SourceError::Failed { .. })));
        assert!(matches!(command(&["true"], 10_000), Err(SourceError::Failed { .. })));
        assert!(matches!(
            command(&["head", "-c", "900000", "/dev/zero"], 10_000),
            Err(SourceError::Failed { .. })
        ));
        assert!(matches!(command(&["surely-no-such-program"], 10_000), Err(SourceError::Start { .. })));
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_all_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
        // A limit that `sh` needs to get going; what counts is that both are gone afterwards.
        assert!(matches!(command(&["sh", "-c", &script], 1_500), Err(SourceError::Timeout { .. })));
        let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        // A killed process may still be on its way out; one that was not killed lives for 1,000 seconds.
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        assert!((0..3_000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_gone()
        }));
    }

    #[test]
    fn the_limit_holds_for_the_end_too_and_what_is_left_running_is_not_waited_for() {
        // Both sleep for a time that no passing test waits for.
        let closed = "printf value-of-it; exec 1>&-; sleep 1000";
        assert!(matches!(command(&["sh", "-c", closed], 1_500), Err(SourceError::Timeout { .. })));
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let script = "setsid sh -c 'echo $$ > \"$0\"; exec sleep 1000' \"$0\" & \
                      while ! [ -s \"$0\" ]; do :; done; printf value-of-it";
        let value = command(&["sh", "-c", script, &pid_file.display().to_string()], 60_000).unwrap();
        assert_eq!(value.expose(), b"value-of-it");
        // It is left alone, as an agent that a program started for later.
        let pid = std::fs::read_to_string(&pid_file).unwrap().trim().parse().ok().and_then(Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn an_answer_is_kept_for_its_time_only() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = format!("echo x >> {}; echo value-of-the-command", log.display());
        let source =
            CommandSource::new(["sh", "-c", &script].map(str::to_owned).to_vec(), 10_000, 60).unwrap();
        let calls = || std::fs::read_to_string(&log).unwrap().lines().count();
        for (now, expected) in [(1_000, 1), (1_059, 1), (1_060, 2), (1_000, 3)] {
            assert_eq!(source.fetch(now).unwrap().expose(), b"value-of-the-command");
            assert_eq!(calls(), expected, "at {now}");
        }
    }
}
