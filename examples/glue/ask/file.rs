//! A rule for good: appended to the user's policy file. What stands there, comments too, stays byte for byte.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What the file was, to put it back.
pub struct Before {
    path: PathBuf,
    text: String,
}

/// Appends `rule` to the file at `path`: written aside and renamed, so that whoever reads sees the old file or the
/// new one. A link stays one. The file keeps its permissions.
pub fn append(path: &Path, rule: &str) -> io::Result<Before> {
    let path = fs::canonicalize(path)?;
    let text = fs::read_to_string(&path)?;
    let between = match text.as_bytes() {
        [.., b'\n'] | [] => "\n",
        _ => "\n\n",
    };
    replace(&path, &format!("{text}{between}{rule}"))?;
    Ok(Before { path, text })
}

impl Before {
    /// Puts the old file back.
    pub fn restore(&self) -> io::Result<()> {
        replace(&self.path, &self.text)
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.join(format!(".{name}.{}", std::process::id()));
    // Left over from a process of this id that was killed.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = File::create_new(&aside)?;
        file.set_permissions(fs::metadata(path)?.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_there_stays_and_can_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("policy.toml"), folder.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for (before, after) in [
            ("# mine\nversion = 1 # one\n", "# mine\nversion = 1 # one\n\n[[allow]]\n"),
            ("version = 1", "version = 1\n\n[[allow]]\n"),
        ] {
            fs::write(&file, before).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
            let undo = append(&link, "[[allow]]\n").unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), after);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            undo.restore().unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), before);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something is left over");
        assert!(append(&folder.path().join("missing"), "x").is_err());
    }
}
