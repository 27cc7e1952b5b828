//! Hosts where strangers can leave data: object stores, pastebins, collectors of webhooks, tunnels. A guess by name,
//! good enough for a warning; nothing is decided by it.

/// These and all below them.
const KNOWN: [&str; 31] = [
    "amazonaws.com",
    "api.telegram.org",
    "appspot.com",
    "azurewebsites.net",
    "backblazeb2.com",
    "blob.core.windows.net",
    "catbox.moe",
    "cloudfunctions.net",
    "digitaloceanspaces.com",
    "discord.com",
    "dpaste.com",
    "file.io",
    "firebaseio.com",
    "gist.github.com",
    "gist.githubusercontent.com",
    "hastebin.com",
    "hooks.slack.com",
    "ngrok-free.app",
    "ngrok.app",
    "ngrok.io",
    "pastebin.com",
    "pipedream.net",
    "r2.cloudflarestorage.com",
    "requestbin.com",
    "rentry.co",
    "storage.googleapis.com",
    "termbin.com",
    "transfer.sh",
    "trycloudflare.com",
    "webhook.site",
    "workers.dev",
];
/// Words that say as much in a label.
const WORDS: [&str; 10] =
    ["blob", "bucket", "dropbox", "gist", "paste", "requestbin", "s3", "storage", "upload", "webhook"];

pub(super) fn looks_writable(host: &str) -> bool {
    let below =
        |known: &str| host.strip_suffix(known).is_some_and(|front| front.is_empty() || front.ends_with('.'));
    let words = || host.split(['.', '-', '_']).any(|word| WORDS.iter().any(|known| word.starts_with(known)));
    KNOWN.into_iter().any(below) || words()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_by_name() {
        for host in
            ["bucket.s3.eu-west-1.amazonaws.com", "pastebin.com", "my-uploads.example.com", "s3.example.com"]
        {
            assert!(looks_writable(host), "{host}");
        }
        for host in ["api.example.com", "notpastebin.com.example", "gits.example.com", "10.0.0.1"] {
            assert!(!looks_writable(host), "{host}");
        }
    }
}
