//! The certificates that clients trust, and logins of their tools, as files. Certificates and placeholders only: the
//! authority's key and yours never leave memory.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use credvault::GuestFile;

/// This machine's own roots, in the places where distributions keep them.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Certificates are public; a container's user has to read them, whatever the umask here.
const PUBLIC: u32 = 0o644;

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
    write_whole(&folder, "ca.pem", pem.as_bytes(), PUBLIC)?;
    let mut bundle = pem.as_bytes().to_vec();
    if let Some(roots) = SYSTEM_BUNDLES.iter().find_map(|path| fs::read(path).ok()) {
        bundle.push(b'\n');
        bundle.extend(roots);
    }
    Ok(Written {
        java: write_whole(&folder, "ca.jks", &glue::java::trust_store(&bundle), PUBLIC)?,
        bundle: write_whole(&folder, "ca-bundle.pem", &bundle, PUBLIC)?,
    })
}

/// A folder with this in it was filled by us, and may be again.
const MARK: &str = ".written-by-inject-proxy";

/// Writes the logins below `folder`, which is made if it is missing.
///
/// # Errors
/// Also if there are files that this program did not write: it could be somebody's home.
pub fn write_guest_files(folder: &Path, files: &[GuestFile]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    if !folder.join(MARK).exists() && fs::read_dir(folder)?.next().is_some() {
        let text = "there are files of somebody else's in it; name an empty folder";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    write_whole(folder, MARK, b"", 0o644)?;
    for file in files {
        let path = folder.join(file.path);
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            fs::create_dir_all(parent)?;
            write_whole(parent, name, file.content.as_bytes(), file.mode)?;
        }
    }
    Ok(())
}

/// Written aside and renamed: a client sees the old file or the new one, never half of it.
fn write_whole(folder: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<PathBuf> {
    let (path, aside) = (folder.join(name), folder.join(format!(".{name}.{}", std::process::id())));
    // Left over from a process of this id that was killed; a link placed there is not followed either.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&aside)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    fs::rename(&aside, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_go_into_a_folder_of_their_own_only() {
        let folder = tempfile::tempdir().unwrap();
        let file =
            |content: &str| GuestFile { path: ".docker/config.json", mode: 0o600, content: content.into() };
        let written = || fs::read_to_string(folder.path().join("new/.docker/config.json")).unwrap();
        for content in ["one", "two"] {
            write_guest_files(&folder.path().join("new"), &[file(content)]).unwrap();
            assert_eq!(written(), content);
        }
        // Here is a folder that we did not make.
        let error = write_guest_files(folder.path(), &[file("three")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!folder.path().join(".docker").exists());
    }

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
