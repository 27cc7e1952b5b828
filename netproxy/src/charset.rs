//! The characters that a text is written in, as far as it says so: whether a key can be found in it as bytes. Must never
//! refuse what is ASCII below, whatever it is called: most of what answers say here is that.

/// Whether letters and digits are in this text the bytes that they are in ASCII or UTF-16, as far as its `charset` says. In
/// UTF-32, UTF-7, SCSU, BOCU-1 and EBCDIC a key is not looked for.
pub fn has_known_characters(content_type: &str) -> bool {
    const UNKNOWN: [&str; 6] = ["utf32", "ucs4", "utf7", "scsu", "bocu1", "ebcdic"];
    // Labels are spelled in many ways: `csUTF7`, `"utf\-7"`, `x-UTF_32`.
    let charset = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        let letters = value.chars().filter(char::is_ascii_alphanumeric);
        let is_it = name.trim().eq_ignore_ascii_case("charset");
        is_it.then(|| letters.collect::<String>().to_ascii_lowercase())
    };
    let mut named = content_type.split(';').skip(1).filter_map(charset);
    named.all(|name| {
        let is_unknown = UNKNOWN.iter().any(|unknown| name.contains(unknown));
        !is_unknown && !["u7", "u32"].contains(&name.as_str()) && !is_ebcdic(&name)
    })
}

/// By the number of a code page: `cp037`, `ibm1047`, `csIBM1026`, `x-cp20273` (Microsoft's numbers are 20,000 above).
fn is_ebcdic(charset: &str) -> bool {
    // IBM's numbers, of the pages that libraries know; there are more.
    const PAGES: [u16; 75] = [
        37, 38, 273, 274, 275, 277, 278, 280, 281, 284, 285, 286, 290, 297, 300, 420, 423, 424, 500, 803,
        833, 834, 835, 836, 837, 838, 870, 871, 875, 880, 905, 918, 924, 930, 931, 933, 935, 937, 939, 1025,
        1026, 1047, 1097, 1112, 1122, 1123, 1130, 1132, 1137, 1140, 1141, 1142, 1143, 1144, 1145, 1146, 1147,
        1148, 1149, 1153, 1154, 1155, 1156, 1157, 1158, 1160, 1164, 1165, 1364, 1371, 1388, 1390, 1399,
        12712, 16804,
    ];
    let of_a_page = charset.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let before = charset.get(..charset.len().saturating_sub(of_a_page.len())).unwrap_or_default();
    let end = of_a_page.find(|c: char| !c.is_ascii_digit()).unwrap_or(of_a_page.len());
    let page = of_a_page.get(..end).and_then(|digits| digits.parse::<u16>().ok());
    let is_page = |page: u16| PAGES.contains(&page.checked_sub(20_000).unwrap_or(page));
    let names_page = ["", "x", "cp", "xcp", "ibm", "xibm", "csibm", "ccsid"].contains(&before);
    charset.ends_with("ibmthai") || (names_page && page.is_some_and(is_page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_refused_only_in_characters_that_are_not_looked_for() {
        for known in [
            "text/html",
            "text/html; charset=utf-8",
            "image/png; charset=binary",
            "text/plain;charset=\"ISO_8859-1\"",
            "text/plain; charset=windows-1252",
            "text/plain; charset=cp1251",
            "text/plain; charset=IBM850",
            "text/plain; charset=ks_c_5601-1987",
            "text/plain; charset=",
            "text/plain; charset",
            "text/xml; charset=utf-16le",
            "text/plain; charset=x-user-defined",
            "text/plain; charset=ibm-1162",
            "text/plain; charset=x-cp20936",
        ] {
            assert!(has_known_characters(known), "{known}");
        }
        for unknown in [
            "text/plain; charset=UTF-32BE",
            "text/plain; charset=\"utf_32\"",
            "text/plain; a=b ; Charset = cp037",
            "text/plain; charset=IBM-1047",
            "text/plain; charset=x-ibm500",
            "text/plain; charset=utf-7",
            "text/plain; charset=utf-8; charset=ucs-4",
            "text/plain; charset=utf7",
            "text/plain; charset=csUnicode11UTF7",
            "text/plain; charset=\"utf\\-7\"",
            "text/plain; charset=u7",
            "text/plain; charset=X-UTF-32LE-BOM",
            "text/plain; charset=10646-1:1993/UCS4",
            "text/plain; charset=csIBM037",
            "text/plain; charset=IBM038",
            "text/plain; charset=x-cp20273",
            "text/plain; charset=IBM01140",
            "text/plain; charset=x-IBM937",
            "text/plain; charset=IBM-Thai",
            "text/plain; charset=cp1097",
            "text/plain; charset=BOCU-1",
        ] {
            assert!(!has_known_characters(unknown), "{unknown}");
        }
    }
}
