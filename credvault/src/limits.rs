//! Every count and size of this crate, unit last. Times are limits on waiting only.

/// Longest name of a credential, in bytes. A name goes into logs, markers and keyring attributes.
pub const NAME_BYTES_MAX: usize = 64;

/// Shortest secret that can be bound or scrubbed, in bytes. Shorter ones would be found by chance in
/// ordinary text, and eight characters can be guessed anyway.
pub const SECRET_BYTES_MIN: usize = 8;

/// Longest secret that can be bound, in bytes. Larger than any token seen (JWTs reach 8 KiB), and small
/// enough for one header of a server with a 32 KiB head limit.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;

/// Most credentials in one vault. Keeps the scan tables of one sandbox small.
pub const BINDINGS_MAX: usize = 256;

/// Least randomness in a placeholder, in bits. Below that a guest could guess another sandbox's.
pub const PLACEHOLDER_BITS_MIN: usize = 64;

/// Longest placeholder, in bytes.
pub const PLACEHOLDER_BYTES_MAX: usize = 512;

/// Most bytes asked from the randomness source for one placeholder. A source that returns only bytes
/// that must be rejected would otherwise loop for ever.
pub const PLACEHOLDER_RANDOM_BYTES_MAX: usize = 64 * 1024;

/// Bytes at the start of a secret's form that decide whether the end of a chunk is held back. Holding
/// must not depend on more of the secret than this: see `scrub` for the attack that it stops.
pub const HOLD_PREFIX_BYTES: usize = 4;

/// Most bytes of a form that are searched for at once. More skip more text at a time, and begin in more ways.
pub const WINDOW_BYTES_MAX: usize = 32;

/// In how many ways one form of one secret may begin within that many bytes; fewer bytes are searched for where there
/// would be more. What searching takes in memory and cache grows with it.
pub const BEGINNINGS_MAX: usize = 64;

/// Replaced values of one credential that answers are still scrubbed of, besides the one in use. The oldest goes first.
pub const OLD_VALUES_MAX: usize = 16;

/// How long after it was replaced a value without an end is still scrubbed, in seconds: a week, in which whoever
/// replaced it has revoked it.
pub const OLD_VALUE_S: u64 = 7 * 24 * 3600;

/// Longest `Authorization` value that is decoded to look for a placeholder inside Basic, in bytes.
pub const BASIC_VALUE_BYTES_MAX: usize = 64 * 1024;

/// Largest service table, in bytes.
pub const SERVICES_BYTES_MAX: usize = 1024 * 1024;

/// Longest time one call to the keyring may take, in milliseconds. A daemon that waits for a prompt
/// nobody sees must not hang the program.
pub const KEYRING_CALL_MS_MAX: u64 = 10_000;

/// How much of the stack is overwritten after the keyring's client has handled a value, in bytes: deeper
/// than its cipher reaches, small beside any thread's stack.
pub const STACK_CLEARED_BYTES: usize = 64 * 1024;

/// Most headers, and most query parameters, of a request that is signed. AWS takes 8 KiB of headers.
pub const SIGNED_FIELDS_MAX: usize = 256;

/// Largest chunk of a body that is signed piece by piece, in bytes. SDKs send 64 KiB to 1 MiB.
pub const AWS_CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest line before such a chunk, in bytes: size, extension name, 64 digits.
pub const AWS_CHUNK_HEAD_BYTES_MAX: usize = 128;

/// Largest body in which a placeholder is replaced, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Places of one header or body in which a placeholder is replaced; what is after them stays a placeholder.
pub const REPLACED_PLACES_MAX: usize = 8;

/// Largest encrypted file of secrets, in bytes: all bindings of the longest value, in base64.
pub const AGE_FILE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest wait for another writer of that file, in milliseconds. Deriving a key from a passphrase takes a
/// second or two.
pub const FILE_LOCK_MS_MAX: u64 = 15_000;

/// Longest time a command that prints a secret may take, in milliseconds: some ask for a fingerprint.
pub const COMMAND_MS_MAX: u64 = 60_000;

/// How long after the end of such a command something else may still print for it, in milliseconds. What it left running
/// (`gpg-agent`) may hold its output for ever.
pub const COMMAND_GRACE_MS: u64 = 250;

/// How often such a command is looked at, in milliseconds.
pub const COMMAND_LOOK_MS: u64 = 5;

/// Most words of such a command.
pub const COMMAND_WORDS_MAX: usize = 64;

/// Largest answer of a token endpoint, in bytes.
pub const TOKEN_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How deep such an answer may be nested where it is masked for the guest.
pub const TOKEN_ANSWER_DEPTH_MAX: usize = 16;

/// How long before its end a token is renewed, in seconds: a request with it still has to arrive.
pub const TOKEN_EARLY_S: u64 = 60;

/// Longest time that one request for a token is waited for, in seconds.
pub const TOKEN_REQUEST_S_MAX: u64 = 60;

/// Pause after a request for a token that failed, in seconds: servers lock out who asks too often.
pub const TOKEN_RETRY_S: u64 = 15;

/// Life of a token whose server does not say it, in seconds.
pub const TOKEN_LIFE_S: u64 = 3600;

/// Longest life of a token that is believed, in seconds: after it, a new one is asked for.
pub const TOKEN_LIFE_S_MAX: u64 = 30 * 24 * 3600;

// A form shorter than the prefix that decides on holding could end inside it.
const _: () = assert!(HOLD_PREFIX_BYTES < SECRET_BYTES_MIN);
