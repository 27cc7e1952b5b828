//! The certificates that clients trust, as files. Certificates only: the authority's key never leaves memory.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// This machine's own roots, in the places where distributions keep them.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// What [`write_certificates`] wrote, as absolute paths.
pub struct Written {
    /// The proxy's certificate and this machine's roots: for connections that the proxy passes through unread, too.
    pub bundle: PathBuf,
    /// The same for Java.
    pub java: PathBuf,
}

/// Makes `folder` if it is missing, and `ca.pem`, `ca-bundle.pem` and `ca.jks` in it.
pub fn write_certificates(folder: &Path, pem: &str) -> io::Result<Written> {
    fs::create_dir_all(folder)?;
    let folder = fs::canonicalize(folder)?;
    write_whole(&folder, "ca.pem", pem.as_bytes())?;
    let mut bundle = pem.as_bytes().to_vec();
    if let Some(roots) = SYSTEM_BUNDLES.iter().find_map(|path| fs::read(path).ok()) {
        bundle.push(b'\n');
        bundle.extend(roots);
    }
    Ok(Written {
        java: write_whole(&folder, "ca.jks", &glue::java::trust_store(&bundle))?,
        bundle: write_whole(&folder, "ca-bundle.pem", &bundle)?,
    })
}

/// Written aside and renamed: a client sees the old file or the new one, never half of it.
fn write_whole(folder: &Path, name: &str, content: &[u8]) -> io::Result<PathBuf> {
    let (path, aside) = (folder.join(name), folder.join(format!(".{name}.{}", std::process::id())));
    // Left over from a process of this id that was killed; a link placed there is not followed either.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&aside)?;
    file.write_all(content)?;
    // Certificates are public; a container's user has to read them, whatever the umask here.
    file.set_permissions(Permissions::from_mode(0o644))?;
    fs::rename(&aside, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_replace_what_was_there_and_leave_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("new");
        for pem in ["first\n", "second\n"] {
            let written = write_certificates(&place, pem).unwrap();
            assert!(fs::read_to_string(&written.bundle).unwrap().starts_with(pem));
            assert_eq!(fs::read_to_string(place.join("ca.pem")).unwrap(), pem);
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 3);
    }
}
