//! Ready-made rules, as policy files like any other: `use = ["anthropic", "github-read"]`. In verdicts their file is
//! `preset:NAME`.
//!
//! None of them has a wildcard host, an object store, a place where pages or snippets are put, or any other host where
//! everybody may leave data for everybody, and none allows more methods and paths than its clients need. Rules that pass
//! data on to where the owner of another key could read it are labelled `write_capable`. No package registry is named:
//! their hosts are those that the machine's own clients are set up to use.

/// What stands before a preset's name in verdicts and errors.
pub(crate) const FILE_PREFIX: &str = "preset:";

/// By groups, as documented.
const ALL: &[(&str, &str)] = &[
    ("anthropic", include_str!("anthropic.toml")),
    ("claude-code", include_str!("claude-code.toml")),
    ("openai", include_str!("openai.toml")),
    ("codex", include_str!("codex.toml")),
    ("google-ai", include_str!("google-ai.toml")),
    ("groq", include_str!("groq.toml")),
    ("mistral", include_str!("mistral.toml")),
    ("xai", include_str!("xai.toml")),
    ("openrouter", include_str!("openrouter.toml")),
    ("deepseek", include_str!("deepseek.toml")),
    ("cohere", include_str!("cohere.toml")),
    ("together", include_str!("together.toml")),
    ("fireworks", include_str!("fireworks.toml")),
    ("cerebras", include_str!("cerebras.toml")),
    ("perplexity", include_str!("perplexity.toml")),
    ("github-read", include_str!("github-read.toml")),
    ("github-write", include_str!("github-write.toml")),
    ("gitlab", include_str!("gitlab.toml")),
    ("gitlab-write", include_str!("gitlab-write.toml")),
    ("pip", include_str!("pip.toml")),
    ("npm", include_str!("npm.toml")),
    ("cargo", include_str!("cargo.toml")),
    ("apt", include_str!("apt.toml")),
    ("go", include_str!("go.toml")),
    ("maven", include_str!("maven.toml")),
    ("containers", include_str!("containers.toml")),
];

/// The names of all presets.
pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// A preset's file: comments that say what it is for, rules, and their tests.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// All names, for an error.
pub(crate) fn list() -> String {
    names().collect::<Vec<_>>().join(", ")
}

/// The preset that was probably meant.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    /// Longer ones are no slips of the finger.
    const NAME_BYTES_MAX: usize = 64;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let begins = names().find(|known| !name.is_empty() && known.starts_with(name));
    let close = names().map(|known| (distance(name, known), known)).min();
    begins.or_else(|| close.filter(|(distance, known)| *distance <= known.len() / 3).map(|(_, known)| known))
}

/// How many letters have to be added, removed or changed (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (line, letter) in (1..).zip(one.chars()) {
        let mut diagonal = line - 1;
        let mut left = line;
        for (cell, other) in row.iter_mut().skip(1).zip(other.chars()) {
            let changed = diagonal + usize::from(letter != other);
            diagonal = *cell;
            left = changed.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
