//! The guest's `/etc`: made here, or copied where a program needs the host's own.
//!
//! Never copied: `shadow`, `gshadow`, `environment`, private keys, the host's users, its resolver.

use std::fs;
use std::path::{Path, PathBuf};

/// One file that the agent writes into the guest before anything runs.
pub struct GuestFile {
    pub path: String,
    pub mode: u32,
    pub content: Vec<u8>,
}

impl GuestFile {
    pub fn text(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode: 0o644, content: content.into() }
    }
}

/// Files of the host's `/etc` that programs read and that hold nothing private.
const COPIED: &[&str] = &[
    "bash.bashrc",
    "debian_version",
    "gai.conf",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "mime.types",
    "os-release",
    "profile",
    "protocols",
    "services",
    "shells",
    "ssl/openssl.cnf",
    "timezone",
];

/// Folders of the host's `/etc` that are shared read-only, for the same reason.
const SHARED: &[&str] = &["alternatives", "fonts", "ld.so.conf.d", "perl", "ssl/certs", "terminfo", "xml"];

/// Name prefixes of further such folders: language runtimes keep theirs per version.
const SHARED_PREFIXES: &[&str] = &["java-", "python3"];

/// A copied file larger than this is left out: it is not configuration.
const COPIED_BYTES_MAX: u64 = 1 << 20;

/// What is made here and must be the guest's own: a share over one of these would be written to by the agent, or
/// would leave the guest without it.
pub const MADE: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/ssl/certs/agent-sandbox.pem",
    super::environment::CA_BUNDLE,
    super::environment::JAVA_TRUST_STORE,
];

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
man:x:6:12:man:/var/cache/man:/usr/sbin/nologin
_apt:x:42:65534::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";

const GROUP: &str = "\
root:x:0:
daemon:x:1:
bin:x:2:
tty:x:5:
disk:x:6:
man:x:12:
shadow:x:42:
utmp:x:43:
staff:x:50:
users:x:100:
nogroup:x:65534:
";

const HOSTS: &str = "\
127.0.0.1 localhost gateway.sandbox.internal
::1 localhost ip6-localhost ip6-loopback
127.0.1.1 sandbox
";

/// One address stands for a name: with a second one, programs would try twice what was refused once.
const RESOLV_CONF: &str = "\
nameserver 127.0.0.1
options edns0 no-aaaa timeout:5 attempts:2
";

/// The files of the guest's `/etc`; `ca_pem` is the sandbox's own CA certificate.
pub fn files(ca_pem: &str) -> Vec<GuestFile> {
    let bundle = bundle(ca_pem);
    let java = glue::java::trust_store(&bundle);
    let mut files = vec![
        GuestFile::text("/etc/passwd", PASSWD),
        GuestFile::text("/etc/group", GROUP),
        GuestFile::text("/etc/hostname", "sandbox\n"),
        GuestFile::text("/etc/hosts", HOSTS),
        GuestFile::text("/etc/resolv.conf", RESOLV_CONF),
        GuestFile::text(
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
        ),
        GuestFile::text("/etc/ssl/certs/agent-sandbox.pem", ca_pem),
        GuestFile::text(super::environment::CA_BUNDLE, bundle),
        GuestFile::text(super::environment::JAVA_TRUST_STORE, java),
    ];
    for name in COPIED {
        let path = Path::new("/etc").join(name);
        let small = fs::metadata(&path).is_ok_and(|data| data.is_file() && data.len() <= COPIED_BYTES_MAX);
        if let Some(content) = small.then(|| fs::read(&path).ok()).flatten() {
            files.push(GuestFile::text(&format!("/etc/{name}"), content));
        }
    }
    files
}

/// Folders of the host's `/etc` to share, those that exist.
pub fn shared_folders() -> Vec<PathBuf> {
    let etc = Path::new("/etc");
    let mut folders: Vec<PathBuf> = SHARED.iter().map(|name| etc.join(name)).collect();
    for entry in fs::read_dir(etc).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if SHARED_PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            folders.push(entry.path());
        }
    }
    folders.retain(|folder| fs::symlink_metadata(folder).is_ok_and(|data| data.is_dir()));
    folders.sort();
    folders
}

/// The host's public roots, wherever this distribution keeps them, and the sandbox's own CA.
fn bundle(ca_pem: &str) -> Vec<u8> {
    const HOST_BUNDLES: &[&str] =
        &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let mut bundle = HOST_BUNDLES.iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
    if !bundle.is_empty() && !bundle.ends_with(b"\n") {
        bundle.push(b'\n');
    }
    bundle.extend_from_slice(ca_pem.as_bytes());
    bundle
}
