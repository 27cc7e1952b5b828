//! Text of others, safe to print.

/// Control characters are shown, not obeyed.
#[must_use]
pub fn printable(text: &str) -> String {
    let show = |c: char| if c.is_control() { format!("\\x{:02x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_is_shown() {
        assert_eq!(printable("a\x1b[2J\u{9b}m"), "a\\x1b[2J\\x9bm");
    }
}
