//! Opens `/dev/kvm` and says precisely why it cannot.

use std::io;
use std::path::Path;

use kvm_ioctls::Kvm;

/// Where Linux puts KVM.
pub const DEVICE: &str = "/dev/kvm";

/// The only version of KVM's interface there has been since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// Why `/dev/kvm` cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such device file.
    #[error(
        "{DEVICE} does not exist; load the kernel module kvm-intel or kvm-amd, or, in a cloud machine, \
         ask for nested virtualisation"
    )]
    Missing,
    /// The file is there, this user may not open it.
    #[error("no permission to open {DEVICE}; add this user to the group that owns it (often `kvm`)")]
    Denied,
    /// The file is there, the kernel has nothing behind it.
    #[error("{DEVICE} has no hardware behind it ({0}); enable virtualisation in the firmware")]
    NoHardware(#[source] io::Error),
    /// It is not KVM, or a KVM of another age.
    #[error("{DEVICE} speaks version {0} of its interface, not {API_VERSION}; is it KVM at all?")]
    Version(i32),
    /// Anything else.
    #[error("cannot open {DEVICE}: {0}")]
    Io(#[source] io::Error),
}

/// Opens KVM and checks its version.
pub(crate) fn open() -> Result<Kvm, OpenError> {
    let kvm = Kvm::new().map_err(|error| explain(io::Error::from_raw_os_error(error.errno())))?;
    match kvm.get_api_version() {
        API_VERSION => Ok(kvm),
        version => Err(OpenError::Version(version)),
    }
}

fn explain(error: io::Error) -> OpenError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => OpenError::Missing,
        // A device node without a driver and a missing node read the same to a user.
        Some(libc::ENXIO | libc::ENODEV) if Path::new(DEVICE).exists() => OpenError::NoHardware(error),
        Some(libc::EACCES | libc::EPERM) => OpenError::Denied,
        _ => OpenError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_error_and_remedy() {
        let explain = |code| explain(io::Error::from_raw_os_error(code));
        assert!(matches!(explain(libc::ENOENT), OpenError::Missing));
        assert!(matches!(explain(libc::EACCES), OpenError::Denied));
        assert!(explain(libc::EACCES).to_string().contains("group"));
        assert!(matches!(explain(libc::EMFILE), OpenError::Io(_)));
    }
}
