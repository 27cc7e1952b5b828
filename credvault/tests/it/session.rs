//! A session bus and a gnome-keyring of the test's own. Shared with the tests of the program.
//!
//! The daemon is started by D-Bus activation, so the first call waits for it and no test sleeps. Where the
//! programs are missing, each test says SKIPPED; with `CREDVAULT_REQUIRE_KEYRING=1` it fails instead.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A message bus and, once something calls it, a keyring daemon; both end with the value.
pub(crate) struct Session {
    bus: Child,
    address: String,
    home: PathBuf,
}

/// What answers for `org.freedesktop.secrets`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keyring {
    /// Nobody.
    Absent,
    /// A daemon that was given no password: what it has on disk stays locked.
    WithoutPassword,
    /// A daemon that unlocks, or creates, the login keyring.
    Unlocked,
}

impl Session {
    /// `home` holds the keyring files and may be used by a later session.
    pub(crate) fn start(home: &Path, keyring: Keyring) -> Option<Self> {
        if let Some(missing) =
            ["dbus-daemon", "gnome-keyring-daemon"].into_iter().find(|name| !is_installed(name))
        {
            assert!(std::env::var_os("CREDVAULT_REQUIRE_KEYRING").is_none(), "{missing} is not installed");
            let _ = writeln!(
                std::io::stdout(),
                "\nSKIPPED: {missing} is not installed (apt-get install gnome-keyring dbus)"
            );
            return None;
        }
        let services = home.join("services");
        let _ = std::fs::remove_dir_all(&services);
        for folder in [&services, &home.join("run"), &home.join("data")] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        if keyring != Keyring::Absent {
            install_service(home, &services, keyring == Keyring::Unlocked);
        }
        let config = home.join("bus.conf");
        std::fs::write(&config, bus_config(home, &services)).unwrap();
        let mut bus = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address=1", "--config-file"])
            .arg(&config)
            .env("HOME", home)
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { bus, address: address.trim().to_owned(), home: home.to_owned() })
    }

    /// Ends our own daemon, by the number that it wrote before it became the daemon.
    pub(crate) fn kill_daemon(&self, signal: &str) {
        if let Ok(pid) = std::fs::read_to_string(self.home.join("daemon.pid")) {
            let _ = std::fs::remove_file(self.home.join("daemon.pid"));
            let _ = Command::new("kill").args([signal, pid.trim()]).stderr(Stdio::null()).status();
        }
    }

    /// What a program finds in `DBUS_SESSION_BUS_ADDRESS`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill_daemon("-TERM");
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// From now on the bus starts this daemon, when somebody calls it and none runs.
pub(crate) fn install_service(home: &Path, services: &Path, unlock: bool) {
    let script = home.join("keyring.sh");
    let (flag, input) = if unlock { ("--unlock", "password") } else { ("", "empty") };
    std::fs::write(home.join("password"), "correct horse").unwrap();
    std::fs::write(home.join("empty"), "").unwrap();
    let home = home.display();
    let text = format!(
        "#!/bin/sh\necho $$ > {home}/daemon.pid\n\
         exec gnome-keyring-daemon --foreground --components=secrets --control-directory={home}/run {flag} \
         < {home}/{input} > {home}/daemon.log 2>&1\n"
    );
    std::fs::write(&script, text).unwrap();
    let text = format!("[D-BUS Service]\nName=org.freedesktop.secrets\nExec=/bin/sh {}\n", script.display());
    std::fs::write(services.join("org.freedesktop.secrets.service"), text).unwrap();
}

fn bus_config(home: &Path, services: &Path) -> String {
    format!(
        r#"<busconfig><type>session</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
        <servicedir>{}</servicedir><policy context="default"><allow send_destination="*"/><allow own="*"/>
        <allow receive_sender="*"/></policy></busconfig>"#,
        home.display(),
        services.display()
    )
}
