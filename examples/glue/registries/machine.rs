//! This machine as the package clients see it: their variables, their files, and the clients themselves, which are
//! asked where a default is compiled into them.
//!
//! What a sandbox may write to is never believed: a program there could be the guest's, and a file there would let
//! the guest choose its own registry. So nothing is run from such a folder and nothing read in it, clients start in a
//! folder without project files, and they get only the variables that say where packages come from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use policy::{Registry, RegistryHost};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

/// A configuration file or an answer, bytes: more is refused.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// How long a client may take to answer; some start a virtual machine of their own, some ask their registry.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Variables that every client gets: where its user's files are, and the way out.
const COMMON_VARIABLES: [&str; 14] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "TMPDIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LANG",
];

/// Text that may hold passwords, as configurations do: cleared when it is no longer needed.
pub(crate) type Text = Zeroizing<Vec<u8>>;

/// Where configurations are read and clients are found. Each client is asked once: copies share the answers.
#[derive(Debug, Clone)]
pub struct Machine {
    variables: Vec<(OsString, OsString)>,
    /// What stands for `/` in paths of the system's own files.
    root: PathBuf,
    /// Folders, canonical, that a sandbox may write to.
    untrusted: Vec<PathBuf>,
    /// The current directory, canonical: a sandbox may have written to it earlier, or may do so elsewhere.
    current: Option<PathBuf>,
    time_max: Duration,
    /// What clients have told so far. A reload of a policy must not wait for them again, nor change because one of
    /// them cannot reach its registry at this moment.
    answers: Answers,
}

/// Shared by all copies of a machine.
type Answers = Arc<Mutex<BTreeMap<Registry, Vec<RegistryHost>>>>;

/// What of a client's output is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard output.
    Plain,
    /// Errors too: there are clients that tell where they would go only when they cannot.
    WithErrors,
}

/// One question to a client.
#[derive(Debug)]
pub(crate) struct Question<'q> {
    pub(crate) program: &'static str,
    pub(crate) arguments: &'q [&'q str],
    /// Variables of this machine that it gets beside the common ones.
    pub(crate) variables: &'q [&'q str],
    /// Variables that are set for it.
    pub(crate) set: &'q [(&'q str, &'q str)],
    /// Where the client finds what its user has set up, and what it runs itself.
    pub(crate) reads: &'q [PathBuf],
    pub(crate) output: Output,
}

impl Machine {
    /// The machine this program runs on. `untrusted` are the folders that a sandbox may write to. In the current
    /// directory no configuration is read and no client run either, unless the user's own folder is in it.
    #[must_use]
    pub fn this(untrusted: &[PathBuf]) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let current =
            std::env::current_dir().ok().filter(|path| !home.starts_with(path) && path.parent().is_some());
        Self {
            variables: std::env::vars_os().collect(),
            root: PathBuf::from("/"),
            untrusted: untrusted.iter().filter_map(|path| fs::canonicalize(path).ok()).collect(),
            current: current.and_then(|path| fs::canonicalize(path).ok()),
            time_max: ANSWER_TIME_MAX,
            answers: Answers::default(),
        }
    }

    /// Another machine: these variables, and `root` in place of `/` for the system's files.
    #[must_use]
    pub fn new(variables: &[(&str, &str)], root: &Path) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Self {
            variables: variables.collect(),
            root: root.to_owned(),
            untrusted: Vec::new(),
            current: None,
            time_max: ANSWER_TIME_MAX,
            answers: Answers::default(),
        }
    }

    /// The same with one more folder that a sandbox may write to.
    #[must_use]
    pub fn with_untrusted(mut self, folder: &Path) -> Self {
        self.untrusted.extend(fs::canonicalize(folder));
        self
    }

    /// The same with less patience.
    #[must_use]
    pub fn with_time_max(mut self, time: Duration) -> Self {
        self.time_max = time;
        self
    }

    /// What `ask` says about this registry, or said when it last knew. Errors are not kept.
    pub(crate) fn remember(
        &self,
        registry: Registry,
        ask: impl FnOnce() -> Result<Vec<RegistryHost>, String>,
    ) -> Result<Vec<RegistryHost>, String> {
        // Held while a client is asked: whoever wants the same waits for it instead of asking twice.
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hosts) = answers.get(&registry) {
            return Ok(hosts.clone());
        }
        let hosts = ask()?;
        answers.insert(registry, hosts.clone());
        Ok(hosts)
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| value.to_str()).filter(|value| !value.is_empty())
    }

    /// The user's own folder.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// Where the user's configuration is.
    pub(crate) fn config_home(&self) -> Option<PathBuf> {
        let named = self.variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| self.home().map(|home| home.join(".config")))
    }

    /// A file of the system's, by its path without the first slash.
    pub(crate) fn system(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The folder that a sandbox may write to in which this file lies. The file was opened, and is asked: its path may lead
    /// elsewhere by now.
    pub(crate) fn untrusted_folder(&self, file: &File) -> io::Result<Option<&Path>> {
        if self.trusts_all() { Ok(None) } else { Ok(self.untrusted_above(&real_path(file)?)) }
    }

    /// No sandbox may write to any folder.
    pub(crate) fn trusts_all(&self) -> bool {
        self.untrusted.is_empty()
    }

    fn untrusted_above(&self, real: &Path) -> Option<&Path> {
        self.untrusted.iter().find(|folder| real.starts_with(folder)).map(PathBuf::as_path)
    }

    /// The same, or the current directory.
    fn others_above(&self, real: &Path) -> Option<&Path> {
        let current = self.current.as_deref().filter(|folder| real.starts_with(folder));
        self.untrusted_above(real).or(current)
    }

    /// The same of a path.
    fn others_folder(&self, path: &Path) -> Option<&Path> {
        self.others_above(&fs::canonicalize(path).ok()?)
    }

    /// A configuration file; `None` where there is none.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<Text>, String> {
        let problem = |why: String| format!("cannot read {}: {why}", path.display());
        let broken = |error: io::Error| problem(error.to_string());
        // Not blocking: a named pipe would wait for a writer before its kind is known.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from) {
            Err(error) if is_absent(&error) => return Ok(None),
            opened => File::from(opened.map_err(broken)?),
        };
        if !file.metadata().map_err(broken)?.is_file() {
            return Err(problem("it is no file".to_owned()));
        }
        if let Some(folder) = self.others_above(&real_path(&file).map_err(broken)?) {
            return Err(problem(format!(
                "the sandbox may write to {}, so it could change it",
                folder.display()
            )));
        }
        read_all(file).map(Some).map_err(broken)
    }

    /// Files of a folder with this ending, sorted by name as the clients do; none where there is no folder.
    pub(crate) fn list(&self, folder: &Path, ending: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let mut paths: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|end| end == ending)).collect();
        paths.sort();
        paths
    }

    /// A folder that nobody else can write to, for a project that a client is asked about.
    pub(crate) fn project(&self) -> Result<tempfile::TempDir, String> {
        let folder =
            tempfile::tempdir().map_err(|error| format!("a temporary folder cannot be made: {error}"))?;
        self.check_own(folder.path())?;
        Ok(folder)
    }

    /// Fails for what a sandbox may change, or make if it is not there yet.
    fn check_own(&self, path: &Path) -> Result<(), String> {
        let there = path.ancestors().find(|path| path.exists());
        match there.and_then(|path| self.others_folder(path)) {
            None => Ok(()),
            Some(folder) => {
                let (path, folder) = (path.display(), folder.display());
                Err(format!("{path} is not to be trusted: the sandbox may write to {folder}"))
            }
        }
    }

    /// Runs a client in `/`, where no project's files are, and returns what it says, whatever its exit code.
    pub(crate) fn ask(&self, question: &Question<'_>) -> Result<Text, String> {
        let path = self.search_path();
        let program = self.find(&path, question.program)?;
        question.reads.iter().try_for_each(|path| self.check_own(path))?;
        let mut command = Command::new(program);
        command.args(question.arguments).current_dir("/").env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::join_paths(&path).unwrap_or_default());
        for name in COMMON_VARIABLES.iter().chain(question.variables) {
            if let Some((_, value)) = self.variables.iter().find(|(known, _)| known == name) {
                if Path::new(value).is_absolute() {
                    self.check_for_variable(name, Path::new(value))?;
                }
                command.env(name, value);
            }
        }
        command.envs(question.set.iter().copied()).process_group(0);
        answer(command, question.output, self.time_max).map_err(|why| format!("{}: {why}", question.program))
    }

    /// A variable that leads a client somewhere; the user's own folder is looked at in parts (`reads`).
    fn check_for_variable(&self, name: &str, path: &Path) -> Result<(), String> {
        match name {
            "HOME" | "XDG_CONFIG_HOME" => Ok(()),
            _ => self.check_own(path).map_err(|problem| format!("{name}: {problem}")),
        }
    }

    /// Whether there is such a client.
    pub(crate) fn has(&self, program: &str) -> bool {
        self.find(&self.search_path(), program).is_ok()
    }

    /// Folders of `PATH` that nobody else fills.
    fn search_path(&self) -> Vec<PathBuf> {
        let value = self.variables.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
        let folders = value.map(std::env::split_paths).into_iter().flatten();
        folders.filter(|path| path.is_absolute() && self.others_folder(path).is_none()).collect()
    }

    fn find(&self, path: &[PathBuf], program: &str) -> Result<PathBuf, String> {
        let candidates = path.iter().map(|folder| folder.join(program));
        let runs = |path: &PathBuf| {
            let data = fs::metadata(path);
            data.is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        };
        let mut found = candidates.filter(runs).filter(|path| self.others_folder(path).is_none());
        found.next().ok_or_else(|| format!("{program} is not installed here"))
    }
}

fn answer(mut command: Command, output: Output, time_max: Duration) -> Result<Text, String> {
    let broken = |error: io::Error| format!("it cannot be run: {error}");
    let (reader, writer) = io::pipe().map_err(broken)?;
    match output {
        Output::Plain => command.stderr(Stdio::null()),
        Output::WithErrors => command.stderr(writer.try_clone().map_err(broken)?),
    };
    let mut child = command.stdout(writer).spawn().map_err(broken)?;
    // It holds the other ends of the pipe, which must go for the pipe to end.
    drop(command);
    let (told, tell) = mpsc::channel();
    std::thread::spawn(move || told.send(read_all(reader)));
    let text = tell.recv_timeout(time_max);
    end(&mut child);
    match text {
        Ok(text) => text.map_err(broken),
        Err(_) => Err(format!("it did not answer within {} s", time_max.as_secs())),
    }
}

/// Ends a client that has answered, or that does not, and whatever it started.
fn end(child: &mut Child) {
    // Not waited for yet, so its number is still its own.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Gone already is fine.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// Where a file that is open is, without links.
fn real_path(file: &File) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn read_all(from: impl Read) -> io::Result<Text> {
    // All of it at once: a vector that grows leaves its old bytes on the heap.
    let mut text = Zeroizing::new(Vec::with_capacity(TEXT_BYTES_MAX.saturating_add(1)));
    let limit = u64::try_from(TEXT_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    from.take(limit).read_to_end(&mut text)?;
    match text.len() > TEXT_BYTES_MAX {
        true => Err(io::Error::other(format!("it is longer than {TEXT_BYTES_MAX} bytes"))),
        false => Ok(text),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(folder: &Path, text: &str) {
        let path = folder.join("pip");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn machine(folder: &Path) -> Machine {
        let path = format!("relative:{}:/usr/bin:/bin", folder.display());
        Machine::new(
            &[("PATH", &path), ("HOME", "/nowhere"), ("A_TOKEN", "secret"), ("PIP_X", "y")],
            Path::new("/"),
        )
    }

    fn question(output: Output) -> Question<'static> {
        Question {
            program: "pip",
            arguments: &["config", "list"],
            variables: &["PIP_X"],
            set: &[("SET", "z")],
            reads: &[],
            output,
        }
    }

    #[test]
    fn a_client_gets_its_own_variables_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        script(folder.path(), "echo \"$1 $2 $HOME $PIP_X $SET [$A_TOKEN] $(pwd)\"; echo bad >&2; exit 3");
        let answer = machine(folder.path()).ask(&question(Output::Plain)).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "config list /nowhere y z [] /\n");
        let answer = machine(folder.path()).ask(&question(Output::WithErrors)).unwrap();
        assert!(answer.ends_with(b"bad\n"));
    }

    #[test]
    fn a_client_that_does_not_answer_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        script(folder.path(), "sh -c 'echo $$ > \"$TMPDIR/pid\"; exec cat /dev/zero' & wait");
        let temporary = folder.path().to_str().unwrap();
        let path = format!("{temporary}:/usr/bin:/bin");
        let machine = Machine::new(&[("PATH", &path), ("TMPDIR", temporary)], Path::new("/"));
        // Too long an answer ends it as well as too late a one.
        let error = machine.ask(&question(Output::Plain)).unwrap_err();
        assert!(error.contains("longer than"), "{error}");
        let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
        script(folder.path(), "exec tail -f /dev/null");
        let error =
            machine.with_time_max(Duration::from_millis(200)).ask(&question(Output::Plain)).unwrap_err();
        assert!(error.contains("did not answer"), "{error}");
    }

    #[test]
    fn a_client_is_not_asked_where_a_sandbox_may_write_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        let home = tempfile::tempdir().unwrap();
        script(folder.path(), "echo hello");
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let settings = [home.path().join(".pip/pip.conf")];
        let named = home.path().join("named.conf");
        let ask = |variables: &[(&str, &str)], untrusted: &Path| {
            let machine = Machine::new(variables, Path::new("/")).with_untrusted(untrusted);
            machine.ask(&Question { reads: &settings, ..question(Output::Plain) }).map(drop)
        };
        let plain = [("PATH", path.as_str())];
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(ask(&plain, elsewhere.path()), Ok(()));
        // There is no such file, but it could be made.
        let error = ask(&plain, home.path()).unwrap_err();
        assert!(error.contains(".pip/pip.conf is not to be trusted"), "{error}");
        fs::create_dir(home.path().join(".pip")).unwrap();
        assert!(ask(&plain, &home.path().join(".pip")).is_err());
        fs::create_dir(home.path().join("other")).unwrap();
        assert_eq!(ask(&plain, &home.path().join("other")), Ok(()));
        let variables = [plain[0], ("PIP_X", named.to_str().unwrap())];
        assert!(ask(&variables, &home.path().join("other")).is_ok());
        fs::create_dir(&named).unwrap();
        let error = ask(&variables, &named).unwrap_err();
        assert!(error.starts_with("PIP_X: "), "{error}");
    }

    #[test]
    fn what_a_sandbox_may_write_is_neither_run_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        script(folder.path(), "echo hello");
        let machine = machine(folder.path());
        assert!(machine.ask(&question(Output::Plain)).is_ok());
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path().join("pip"), elsewhere.path().join("pip")).unwrap();
        let machine = Machine::new(&[("PATH", elsewhere.path().to_str().unwrap())], Path::new("/"));
        assert!(machine.ask(&question(Output::Plain)).is_ok());
        let machine = machine.with_untrusted(folder.path());
        let error = machine.ask(&question(Output::Plain)).unwrap_err();
        assert!(error.contains("not installed"), "{error}");
        let error = machine.read(&elsewhere.path().join("pip")).unwrap_err();
        assert!(error.contains("the sandbox may write"), "{error}");
        assert!(machine.read(&elsewhere.path().join("none")).unwrap().is_none());
    }
}
