//! What encoders write, each by the name of who writes so.

use super::*;
use crate::encode::base64;

fn has(value: &str, text: &str) -> bool {
    let eq = |a: &[u8], b: &[u8]| a == b;
    let value = value.as_bytes();
    Form::all(value).iter().any(|form| form.match_len(value, text.as_bytes(), eq) == Some(text.len()))
}

#[test]
fn an_ordinary_key_has_a_dozen_forms_and_few_more_with_a_special_character() {
    // 1 raw (what percent, JSON and HTML encoders write is the same bytes), 2 hexadecimal, 3 base64 (both alphabets
    // agree), 2 percent and 2 JSON with nothing left plain, 2 UTF-16.
    assert_eq!(Form::all(b"0123456789abcdef").len(), 12);
    assert_eq!(Form::all(b"ghp_0123456789abcdef").len(), 15);
    // What is no text has no UTF-16; where base64 has `+` or `/`, its alphabets do not agree.
    assert_eq!(Form::all(b"ghp_\xff0123456789abcdef").len(), 15 - 2 + 3);
}

#[test]
fn encoders_of_the_wild_are_covered() {
    // Keys with all that encoders disagree on.
    let key = r#"a+b/c=d&e'f"g<h>i~j!k(l)m*n o%p\q"#;
    for text in [
        // Python: urllib.parse.quote, the same with safe="", quote_plus.
        "a%2Bb/c%3Dd%26e%27f%22g%3Ch%3Ei~j%21k%28l%29m%2An%20o%25p%5Cq",
        "a%2Bb%2Fc%3Dd%26e%27f%22g%3Ch%3Ei~j%21k%28l%29m%2An%20o%25p%5Cq",
        "a%2Bb%2Fc%3Dd%26e%27f%22g%3Ch%3Ei~j%21k%28l%29m%2An+o%25p%5Cq",
        // Go: url.PathEscape, url.QueryEscape.
        "a+b%2Fc=d&e%27f%22g%3Ch%3Ei~j%21k%28l%29m%2An%20o%25p%5Cq",
        "a%2Bb%2Fc%3Dd%26e%27f%22g%3Ch%3Ei~j%21k%28l%29m%2An+o%25p%5Cq",
        // JavaScript: encodeURI, encodeURIComponent, URLSearchParams.
        "a+b/c=d&e'f%22g%3Ch%3Ei~j!k(l)m*n%20o%25p%5Cq",
        "a%2Bb%2Fc%3Dd%26e'f%22g%3Ch%3Ei~j!k(l)m*n%20o%25p%5Cq",
        "a%2Bb%2Fc%3Dd%26e%27f%22g%3Ch%3Ei%7Ej%21k%28l%29m*n+o%25p%5Cq",
        // .NET: Uri.EscapeDataString, HttpUtility.UrlEncode (lower case).
        "a%2Bb%2Fc%3Dd%26e%27f%22g%3Ch%3Ei~j%21k%28l%29m%2An%20o%25p%5Cq",
        "a%2bb%2fc%3dd%26e%27f%22g%3ch%3ei%7ej!k(l)m*n+o%25p%5cq",
        // JSON: plain, System.Text.Json, Gson, PHP, Go.
        r#"a+b/c=d&e'f\"g<h>i~j!k(l)m*n o%p\\q"#,
        r#"a\u002Bb/c=d\u0026e\u0027f\u0022g\u003Ch\u003Ei~j!k(l)m*n o%p\\q"#,
        r#"a+b/c\u003dd\u0026e\u0027f\"g\u003ch\u003ei~j!k(l)m*n o%p\\q"#,
        r#"a+b\/c=d&e'f\"g<h>i~j!k(l)m*n o%p\\q"#,
        r#"a+b/c=d\u0026e'f\"g\u003ch\u003ei~j!k(l)m*n o%p\\q"#,
        // Python's repr.
        r#"a+b/c=d&e\'f"g<h>i~j!k(l)m*n o%p\\q"#,
        // HTML: Python, Go, PHP, Java (OWASP), mustache.js, .NET (AntiXss), everything in hexadecimal.
        r"a+b/c=d&amp;e&#x27;f&quot;g&lt;h&gt;i~j!k(l)m*n o%p\q",
        r"a&#43;b/c=d&amp;e&#39;f&#34;g&lt;h&gt;i~j!k(l)m*n o%p\q",
        r"a+b/c=d&amp;e&#039;f&quot;g&lt;h&gt;i~j!k(l)m*n o%p\q",
        r"a+b/c=d&amp;e&#39;f&#34;g&lt;h&gt;i~j!k(l)m*n o%p\q",
        r"a+b&#x2F;c&#x3D;d&amp;e&#39;f&quot;g&lt;h&gt;i~j!k(l)m*n o%p\q",
        r"a&#43;b&#47;c&#61;d&amp;e&#39;f&quot;g&lt;h&gt;i&#126;j!k(l)m*n&#32;o&#37;p&#92;q",
        r"a&#x2b;b&#x2f;c&#x3d;d&#x26;e&#x27;f&#x22;g&#x3c;h&#x3e;i&#x7e;j&#x21;k&#x28;l&#x29;m&#x2a;n&#x20;o&#x25;p&#x5c;q",
    ] {
        assert!(has(key, text), "{text}");
        let changed = text.replacen("q", "Q", 1);
        assert!(!has(key, &changed) && !has(key, text.strip_suffix('q').unwrap()), "{changed}");
    }
}

#[test]
fn characters_beyond_ascii_are_written_as_encoders_do() {
    for (key, text) in [
        ("p@ss/wö-key", "p%40ss%2Fw%C3%B6-key"),
        ("p@ss/wö-key", r"p@ss\/w\u00f6-key"),
        ("p@ss/wö-key", r"p@ss/w\u00F6-key"),
        ("p@ss/wö-key", "p@ss/w&#246;-key"),
        ("p@ss/wö-key", "p&#x40;ss/w&#xF6;-key"),
        ("\u{1f511}-key-key", r"\ud83d\udd11-key-key"),
        ("\u{1f511}-key-key", r"\uD83D\uDD11-key-key"),
        ("\u{1f511}-key-key", "&#128273;-key-key"),
        ("\u{1f511}-key-key", "&#x1f511;-key-key"),
    ] {
        assert!(has(key, text), "{text}");
    }
}

#[test]
fn a_value_with_nothing_left_plain_is_covered() {
    for form in ["%73%6b%2d%4b%65%79", "%73%6B%2D%4B%65%79", r"\u0073\u006b\u002d\u004b\u0065\u0079"] {
        assert!(has("sk-Key", form), "{form}");
    }
    assert!(has("sk-Key", r"\u0073\u006B\u002D\u004B\u0065\u0079"));
    assert!(has("sk-Key", "s\0k\0-\0K\0e\0y\0"));
    assert!(has("sk-Key", "\0s\0k\0-\0K\0e\0y"));
    assert!(has("sk-Key", "736b2d4b6579") && has("sk-Key", "736B2D4B6579"));
}

#[test]
fn what_no_encoder_writes_is_no_form() {
    for text in ["a%2bb%2D", "a+b%2D", r"a\u002Bb-", r"\u0061+b-", "a&#43;b-"] {
        assert_eq!(has("a+b-", text), !text.starts_with(r"\u0061+"), "{text}");
    }
    // Escapes of another kind do not mix.
    assert!(!has("a+b-c+d", "a%2Bb-c&#43;d"));
    // A percent sign begins an escape, also where what follows it would do.
    assert!(has("a%2Bc", "a%2Bc") && has("a%2Bc", "a%252Bc") && !has("a+c", "a%252Bc"));
}

#[test]
fn base64_is_found_at_every_alignment() {
    let secret = b"sk-proj-0123456789\xff\xfe";
    let eq = |a: &[u8], b: &[u8]| a == b;
    for alphabet in [Alphabet::Standard, Alphabet::UrlSafe] {
        for before in 0..7 {
            for after in 0..4 {
                let text = [&vec![b'u'; before][..], secret, &vec![b'!'; after]].concat();
                let encoded = base64(&text, alphabet);
                let is_found = (0..encoded.len()).any(|at| {
                    let forms = Form::all(secret);
                    forms.iter().any(|form| form.match_len(secret, &encoded[at..], eq).is_some())
                });
                assert!(is_found, "{before} before, {after} after");
            }
        }
    }
}

#[test]
fn beginnings_are_few_and_every_text_of_a_form_has_one() {
    for key in ["ghp_0123456789abcdef", "a+b/c=d&e'f\"g<h>i", "        ", "////////", "<&<&<&<&", "%%%%%%%%"]
    {
        let key = key.as_bytes();
        for form in Form::all(key) {
            let (least, most) = form.lengths(key);
            assert!(least <= most && most <= 6 * key.len(), "{form:?}");
            for length in 1..=least.min(8) {
                let all = form.beginnings(key, length, 1000).unwrap();
                assert!(all.iter().all(|text| text.len() == length), "{form:?} {length}");
                assert!(
                    all.windows(2).all(|pair| pair[0][..] < pair[1][..]),
                    "sorted, and each is there once"
                );
                assert!(form.beginnings(key, length, all.len() - 1).is_none());
            }
        }
    }
    let plain = b"0123456789abcdef0123456789abcdef";
    assert!(Form::all(plain).iter().all(|form| form.beginnings(plain, 32, 1).is_some()));
}
