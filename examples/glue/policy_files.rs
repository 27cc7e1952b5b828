//! Policy files from disk: one or several, each a layer, with what they include and the registries they name. The one
//! way that programs here load a policy, at the start and again for a reload.
//!
//! `include` names files beneath the folder of the file that includes, and nothing else: no `..`, no absolute path, no
//! link that leads out (the kernel holds that: `openat2(RESOLVE_BENEATH)`). What a sandbox may write to is never
//! included, else it could change its own policy.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use policy::limits::FILE_BYTES_MAX;
use policy::{Included, Includes, PolicyError, Ruleset, RulesetBuilder};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::registries::{ClientConfigs, Machine};

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// All layers as one.
    pub rules: Ruleset,
    /// Every file that was read, those that were included among them: to be watched for changes.
    pub files: Vec<PathBuf>,
}

/// A policy cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read the policy {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What stands in it is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Loads these files as one policy: each is a layer, a deny of any wins, and layers that are ceilings bound the others.
/// `machine` tells the registries, and which folders a sandbox may write to.
///
/// # Errors
/// See [`LoadError`].
pub fn load(paths: &[PathBuf], machine: &Machine) -> Result<Loaded, LoadError> {
    load_with(RulesetBuilder::new(), paths, machine)
}

/// The same, with what `builder` has been told already.
///
/// # Errors
/// See [`LoadError`].
pub fn load_with(builder: RulesetBuilder, paths: &[PathBuf], machine: &Machine) -> Result<Loaded, LoadError> {
    let (rules, files) = load_watched(builder, paths, machine);
    rules.map(|rules| Loaded { rules, files })
}

/// The same, with the files to be watched also where it fails: as far as it came, the one that is to be mended among
/// them.
pub fn load_watched(
    builder: RulesetBuilder,
    paths: &[PathBuf],
    machine: &Machine,
) -> (Result<Ruleset, LoadError>, Vec<PathBuf>) {
    let files = Arc::new(Mutex::new(Vec::new()));
    let includes = BeneathFolder { machine: machine.clone(), files: Arc::clone(&files) };
    let builder = builder.includes(includes).registry_hosts(ClientConfigs(machine.clone()));
    let rules = paths.iter().try_fold(builder, |builder, path| {
        let text = File::open(path).and_then(read_text);
        let text = text.map_err(|source| LoadError::Read { path: path.clone(), source })?;
        files.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        Ok(builder.source(&text, &path.to_string_lossy())?)
    });
    let mut files = std::mem::take(&mut *files.lock().unwrap_or_else(PoisonError::into_inner));
    if rules.is_err() {
        let unread: Vec<_> = paths.iter().filter(|path| !files.contains(path)).cloned().collect();
        files.extend(unread);
    }
    (rules.map(RulesetBuilder::build), files)
}

/// Opens what stands beneath the folder of the file that includes it. A file's name is its path, so that verdicts and
/// errors lead to it.
struct BeneathFolder {
    machine: Machine,
    files: Arc<Mutex<Vec<PathBuf>>>,
}

impl Includes for BeneathFolder {
    fn read(&self, from: &str, wanted: &str) -> Result<Included, String> {
        let wanted = Path::new(wanted);
        let plain = wanted.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain || wanted.as_os_str().is_empty() {
            return Err(
                "only files beneath this file's folder can be included: no `..`, no absolute path".to_owned()
            );
        }
        // `./a` and `a` are one file, and must get one name.
        let wanted: PathBuf =
            wanted.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let path = folder.join(&wanted);
        // Before it is read: one that is missing may come.
        self.files.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        let file = open_beneath(folder, &wanted, self.machine.trusts_all()).map_err(|error| match error.raw_os_error() {
            Some(code) if code == rustix::io::Errno::XDEV.raw_os_error() => {
                "a link in it leads out of this file's folder; put the file itself there".to_owned()
            }
            Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
                "a link leads to it, which a sandbox that may write to a folder here could have made; put the file itself there"
                    .to_owned()
            }
            _ => format!("cannot read it: {error}"),
        })?;
        let untrusted = self.machine.untrusted_folder(&file);
        if let Some(part) = untrusted.map_err(|error| format!("cannot tell where it is: {error}"))? {
            return Err(format!(
                "the sandbox may write to {}, so it could change it; keep it elsewhere",
                part.display()
            ));
        }
        let text = read_text(file).map_err(|error| format!("cannot read it: {error}"))?;
        Ok(Included { name: path.to_string_lossy().into_owned(), text })
    }
}

/// Links beneath the folder are followed where no sandbox may write: one of its own would choose what is included.
fn open_beneath(folder: &Path, wanted: &Path, links: bool) -> io::Result<File> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let held = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    resolve.set(ResolveFlags::NO_SYMLINKS, !links);
    // Not blocking: a named pipe would wait for a writer before its kind is known.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = loop {
        match rustix::fs::openat2(held.as_fd(), wanted, flags, Mode::empty(), resolve) {
            // A rename elsewhere at the same time: the kernel asks to be asked again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            opened => break File::from(opened?),
        }
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

/// One byte more than the limit at most: the loader says what is too large.
fn read_text(file: File) -> io::Result<String> {
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    file.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use policy::{Facts, decide};
    use rustix::fs::CWD;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("version = 1\n{text}")).unwrap();
            path
        }

        fn load(&self, names: &[&str]) -> Result<Loaded, LoadError> {
            let paths: Vec<_> = names.iter().map(|name| self.0.path().join(name)).collect();
            load(&paths, &Machine::new(&[], self.0.path()))
        }

        fn refusal(&self, include: &str) -> String {
            self.write("main.toml", &format!("include = {include:?}\n"));
            self.load(&["main.toml"]).unwrap_err().to_string()
        }
    }

    fn allows(loaded: &Loaded, request: &str) -> bool {
        decide(&loaded.rules, &Facts::parse(request).unwrap()).is_allowed()
    }

    #[test]
    fn files_stack_a_deny_wins_and_a_ceiling_bounds() {
        let folder = Folder::new();
        folder.write("user.toml", "[[allow]]\nhost = [\"a.example\", \"b.example\", \"c.example\"]\n");
        folder.write("project.toml", "[[deny]]\nhost = \"b.example\"\n");
        folder.write(
            "company.toml",
            "ceiling = true\n[[allow]]\nid = \"top\"\nhost = [\"a.example\", \"b.example\"]\n",
        );
        let all = folder.load(&["user.toml", "project.toml", "company.toml"]).unwrap();
        let allowed = ["a", "b", "c"].map(|name| allows(&all, &format!("GET https://{name}.example/")));
        assert_eq!(allowed, [true, false, false]);
        assert!(allows(&folder.load(&["user.toml"]).unwrap(), "GET https://c.example/"));
        assert_eq!(all.files.len(), 3);
        let missing = folder.load(&["user.toml", "none.toml"]).unwrap_err().to_string();
        assert!(missing.contains("none.toml"), "{missing}");
    }

    #[test]
    fn what_is_included_is_named_from_the_file_that_includes() {
        let folder = Folder::new();
        folder
            .write("main.toml", "include = [\"./parts/one.toml\", \"parts/one.toml\", \"parts/two.toml\"]\n");
        folder.write(
            "parts/one.toml",
            "include = \"deep/three.toml\"\n[[allow]]\nid = \"one\"\nhost = \"one.example\"\n",
        );
        folder.write("parts/two.toml", "[[allow]]\nid = \"two\"\nhost = \"two.example\"\n");
        folder.write("parts/deep/three.toml", "[[allow]]\nid = \"three\"\nhost = \"three.example\"\n");
        let loaded = folder.load(&["main.toml"]).unwrap();
        let rules: Vec<_> =
            loaded.rules.rules().map(|rule| (rule.id, rule.file.to_owned(), rule.layer)).collect();
        let main = folder.0.path().join("main.toml");
        assert_eq!(rules[0].0, "three");
        assert!(rules[0].1.ends_with("parts/deep/three.toml"), "{}", rules[0].1);
        assert!(rules.iter().all(|rule| rule.2 == main.to_str().unwrap()));
        assert!(allows(&loaded, "GET https://two.example/"));
        // Once more for the second spelling, which names the same file.
        assert_eq!(loaded.files.len(), 5);
    }

    #[test]
    fn nothing_beside_or_above_can_be_included() {
        let folder = Folder::new();
        let outside = Folder::new();
        let secret = outside.write("secret.toml", "");
        for bad in ["../x.toml", "a/../../x.toml", secret.to_str().unwrap(), "", "/"] {
            let error = folder.refusal(bad);
            assert!(error.contains("beneath this file's folder"), "{bad}: {error}");
        }
        std::os::unix::fs::symlink(&secret, folder.0.path().join("link.toml")).unwrap();
        let error = folder.refusal("link.toml");
        assert!(error.contains("leads out"), "{error}");
        std::os::unix::fs::symlink(outside.0.path(), folder.0.path().join("away")).unwrap();
        let error = folder.refusal("away/secret.toml");
        assert!(error.contains("leads out"), "{error}");
        folder.write("inner/real.toml", "[[allow]]\nhost = \"a.example\"\n");
        std::os::unix::fs::symlink("inner/real.toml", folder.0.path().join("within.toml")).unwrap();
        folder.write("main.toml", "include = \"within.toml\"\n");
        assert!(allows(&folder.load(&["main.toml"]).unwrap(), "GET https://a.example/"));
    }

    #[test]
    fn circles_folders_pipes_and_missing_files_are_errors() {
        let folder = Folder::new();
        folder.write("a.toml", "include = \"main.toml\"\n");
        assert!(folder.refusal("a.toml").contains("includes itself"));
        assert!(folder.refusal("none.toml").contains("cannot read it"));
        fs::create_dir(folder.0.path().join("d")).unwrap();
        assert!(folder.refusal("d").contains("no file"));
        let pipe = folder.0.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from(0o600), 0).unwrap();
        assert!(folder.refusal("pipe").contains("no file"));
    }

    #[test]
    fn what_the_sandbox_may_write_is_not_included() {
        let folder = Folder::new();
        folder.write("work/part.toml", "");
        let main = folder.write("main.toml", "include = \"work/part.toml\"\n");
        let machine = Machine::new(&[], folder.0.path()).with_untrusted(&folder.0.path().join("work"));
        let error = load(&[main], &machine).unwrap_err().to_string();
        assert!(error.contains("may write to"), "{error}");
        // A link there leads to what the sandbox may not write, and is its choice all the same.
        folder.write("wide.toml", "");
        let part = folder.0.path().join("work/part.toml");
        fs::remove_file(&part).unwrap();
        std::os::unix::fs::symlink("../wide.toml", &part).unwrap();
        let error = load(&[folder.0.path().join("main.toml")], &machine).unwrap_err().to_string();
        assert!(error.contains("a link leads to it"), "{error}");
    }

    /// Else a preset would allow a host to which the vault puts no key.
    #[test]
    fn what_presets_allow_with_a_key_is_where_the_vault_puts_one() {
        let services = credvault::Services::builtin().unwrap();
        let mut count = 0;
        for name in policy::presets::names() {
            let text = policy::presets::text(name).unwrap();
            let Some(first) =
                text.lines().find_map(|line| line.strip_prefix("request = \"")?.strip_suffix('"'))
            else {
                panic!("{name} has no test");
            };
            let facts = Facts::parse(first).unwrap();
            let (Some(port), policy::Host::Name(host)) = (facts.port(), facts.host()) else {
                panic!("{first}")
            };
            let target = credvault::Target {
                scheme: credvault::Scheme::Https,
                host,
                port,
                method: facts.method().unwrap(),
                path: facts.path().unwrap(),
            };
            // Packages need none, and signing in is how one gets one.
            if host.ends_with(".registry.example") || first.contains("/oauth/") {
                continue;
            }
            let takes = |service: &credvault::Service| {
                service.binding.endpoints.iter().any(|endpoint| endpoint.matches(&target))
            };
            assert!(services.iter().any(takes), "{name}: no service of credvault has {first}");
            count += 1;
        }
        assert!(count >= 15, "{count}");
    }

    #[test]
    fn a_registry_is_read_from_the_machine() {
        let folder = Folder::new();
        fs::create_dir_all(folder.0.path().join("etc/apt")).unwrap();
        fs::write(folder.0.path().join("etc/apt/sources.list"), "deb http://deb.registry.example/ x main\n")
            .unwrap();
        folder.write("main.toml", "[[allow]]\nid = \"debian\"\nregistry = \"apt\"\nmethods = [\"GET\"]\n");
        let loaded = folder.load(&["main.toml"]).unwrap();
        assert!(allows(&loaded, "GET http://deb.registry.example/x"));
        assert!(!allows(&loaded, "POST http://deb.registry.example/x"));
        assert!(!allows(&loaded, "GET https://deb.registry.example/x"));
        folder.write("main.toml", "[[allow]]\nregistry = \"npm\"\n");
        let error = folder.load(&["main.toml"]).unwrap_err().to_string();
        assert!(error.contains("npm is not installed here") && error.contains("host = "), "{error}");
    }
}
