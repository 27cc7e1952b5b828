//! What is known of credentials as text, for stores that cannot list names without values: a line for each, `NAME
//! VERSION NOT-AFTER`. No value is in it.

use super::{Stored, checked_name};

/// The lines that can be read; what another program put there is left out.
pub(super) fn parse(text: &[u8]) -> Vec<Stored> {
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| str::from_utf8(line).ok());
    let mut all: Vec<Stored> = lines.filter_map(line).collect();
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all
}

fn line(text: &str) -> Option<Stored> {
    let mut words = text.split(' ');
    let name = checked_name(words.next()?).ok()?.to_owned();
    let version = words.next()?.parse().ok()?;
    let not_after_s = match words.next()? {
        "-" => None,
        end => Some(end.parse().ok()?),
    };
    Some(Stored { name, version, not_after_s })
}

/// Never empty, as not every store keeps an empty value.
pub(super) fn render(all: &[Stored]) -> String {
    let mut out = String::from("\n");
    for Stored { name, version, not_after_s } in all {
        let end = not_after_s.map_or_else(|| "-".to_owned(), |end| end.to_string());
        out.push_str(&format!("{name} {version} {end}\n"));
    }
    out
}

/// Takes an entry out.
pub(super) fn take(all: &mut Vec<Stored>, name: &str) -> Option<Stored> {
    let at = all.iter().position(|stored| stored.name == name)?;
    Some(all.remove(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_left_out() {
        let all =
            vec![Stored::first("a", None), Stored { version: 7, ..Stored::first("b", Some(1_900_000_000)) }];
        assert_eq!(parse(render(&all).as_bytes()), all);
        assert_eq!(parse(render(&[]).as_bytes()), []);
        let odd = b"a 1 -\nb c 1 -\n\xff 1 -\nc x -\nd 1\ne 1 -1\nf 18446744073709551616 -\n";
        assert_eq!(parse(odd), [Stored::first("a", None)]);
        let mut all = all;
        assert_eq!(take(&mut all, "b").map(|stored| stored.version), Some(7));
        assert_eq!(take(&mut all, "b"), None);
    }
}
