//! Text of others, safe to print.

/// Control characters are shown, not obeyed, and so is what nobody sees and what turns other letters around.
#[must_use]
pub fn printable(text: &str) -> String {
    let show = |c: char| match c {
        _ if c.is_control() => format!("\\x{:02x}", u32::from(c)),
        _ if is_format(c) => c.escape_unicode().to_string(),
        _ => c.to_string(),
    };
    text.chars().map(show).collect()
}

/// What turns text around, and what shows nothing: of Unicode's categories the standard library knows neither.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}'
        | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_is_shown() {
        assert_eq!(printable("a\x1b[2J\u{9b}m"), "a\\x1b[2J\\x9bm");
        assert_eq!(printable("grün \u{202e}txt"), "grün \\u{202e}txt");
    }
}
