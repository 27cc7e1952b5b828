//! Which engine runs the guest, and why: said in one line, never guessed silently.

use std::time::Duration;

use vmm_core::probe::{self, Probe};

use crate::cli::EngineChoice;
use crate::error::{Error, Result};

/// The probe guest answers within milliseconds on a KVM that works; on one that does not it may hang. A user who
/// asked for KVM waits longer before that is concluded: a KVM inside an emulated machine is that slow.
const AUTO_PROBE_TIMEOUT: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EngineKind {
    Kvm,
    Qemu,
}

impl EngineKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }
}

/// The decision and its reason.
pub struct Choice {
    pub kind: EngineKind,
    pub why: String,
}

/// Probes KVM where that matters. A wish that cannot be met is an error, not a fallback.
pub fn choose(wish: EngineChoice) -> Result<Choice> {
    if wish == EngineChoice::Qemu {
        return Ok(Choice { kind: EngineKind::Qemu, why: "asked for".to_owned() });
    }
    let timeout = if wish == EngineChoice::Auto { AUTO_PROBE_TIMEOUT } else { probe::TIME_LIMIT };
    let problem = match probe_kvm(timeout) {
        Ok(()) => return Ok(Choice { kind: EngineKind::Kvm, why: "KVM runs Linux here".to_owned() }),
        Err(problem) => problem,
    };
    if wish == EngineChoice::Kvm {
        let remedy =
            "use --engine qemu (software emulation: slower, and a weaker boundary), or a host with KVM";
        return Err(Error::Engine { engine: "kvm", problem, remedy: remedy.to_owned() });
    }
    let why = format!("{problem}; software emulation is slower and a weaker boundary than KVM");
    Ok(Choice { kind: EngineKind::Qemu, why })
}

/// Whether this host's KVM can run Linux user space; if not, why.
pub fn probe_kvm(timeout: Duration) -> Result<(), String> {
    match probe::probe(timeout) {
        Probe::Usable => Ok(()),
        Probe::Unusable(defect) => Err(defect.to_string()),
        Probe::Unavailable(error) => Err(error.to_string()),
    }
}
