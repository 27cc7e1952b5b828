//! What the programs do about dumps and debuggers before they hold keys. Must not go wrong in silence: the threat model
//! promises it.

/// Asks the system to keep this process from being dumped and traced; a sentence for the user where it refuses.
#[must_use]
pub fn harden() -> Option<String> {
    let error = credvault::harden_process().err()?;
    Some(format!("this process, which holds keys, can be dumped or traced by your other programs: {error}"))
}
