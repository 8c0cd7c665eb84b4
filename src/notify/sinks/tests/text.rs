//! Text for sinks: shortened without splitting an escape sequence, escaped once, and cleaned of deceptive characters.

use proptest::prelude::*;

use crate::notify::sinks::text::{address, ascii, clean, discord, excerpt, fit, line, plain, slack};

#[test]
fn what_fits_stays_and_what_does_not_ends_in_a_mark() {
    assert_eq!(fit("héé", 3, plain), "héé");
    assert_eq!(fit("hééé", 3, plain), "hé…");
    assert_eq!(fit("", 3, plain), "");
    assert_eq!(fit("a", 0, plain), "");
}

#[test]
fn a_cut_splits_nothing_that_was_escaped() {
    assert_eq!(fit("a<b", 6, slack), "a&lt;b");
    assert_eq!(fit("a<bc", 6, slack), "a&lt;…");
    assert_eq!(fit("a<bc", 5, slack), "a…");
    assert_eq!(fit("a*bc", 4, discord), "a\\*…");
    assert_eq!(fit("a*bc", 3, discord), "a…");
}

#[test]
fn entities_are_escaped_once_and_as_text() {
    assert_eq!(fit("&lt;!channel&gt;", 100, slack), "&amp;lt;!channel&amp;gt;");
}

#[test]
fn control_characters_and_terminal_sequences_are_gone() {
    assert_eq!(clean("a\u{0}b\u{7f}c\u{85}\td\r\ne\rf"), "abc\td\ne\nf");
    assert_eq!(
        clean("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}x\u{1b}]8;;u\u{1b}\\y\u{1b}(Bz"),
        "red xyBz"
    );
    assert_eq!(clean("\u{1b}[31"), "");
    assert_eq!(clean("safe\u{202e}gpj.exe\u{2066}"), "safegpj.exe");
    assert_eq!(clean("```x````"), "'''x'''`");
    assert_eq!(line(" a\u{2028}b \n c\t"), "a b c");
}

#[test]
fn of_a_log_the_end_stays() {
    let lines = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(excerpt(&lines(&["", "one  ", "two", " "]), 100, plain).as_deref(), Some("one\ntwo"));
    assert_eq!(excerpt(&lines(&["one", "two", "three"]), 11, plain).as_deref(), Some("…\ntwo\nthree"));
    assert_eq!(excerpt(&lines(&["a\nb"]), 100, slack).as_deref(), Some("a\nb"));
    assert_eq!(excerpt(&lines(&["", "\u{1b}[0m"]), 100, plain), None);
    assert_eq!(excerpt(&[], 100, plain), None);
}

#[test]
fn subjects_are_one_line_of_ascii() {
    assert_eq!(ascii("a → b\n“c” – déjà", 100), "a -> b \"c\" - d?j?");
    assert_eq!(ascii(&"word ".repeat(50), 100).len(), 100);
    assert_eq!(ascii("\u{0}\n", 100), "-");
}

#[test]
fn only_addresses_of_the_web_are_linked() {
    assert_eq!(address("https://a.example/b|c>d(e)").as_deref(), Some("https://a.example/b%7Cc%3Ed%28e%29"));
    for none in ["javascript:alert(1)", "https://u@a.example", "a.example/b", "ftp://a.example", "https://"] {
        assert_eq!(address(none), None, "{none}");
    }
    assert_eq!(address(&format!("https://a.example/{}", "x".repeat(2000))), None);
}

proptest! {
    #[test]
    fn nothing_exceeds_its_limit_or_breaks_an_escape(text in ".{0,200}", limit in 0_usize..150) {
        for write in [plain, slack, discord] {
            prop_assert!(fit(&text, limit, write).chars().count() <= limit);
        }
        let escaped = fit(&text, limit, slack);
        prop_assert!(!escaped.contains(['<', '>']));
        for after in escaped.split('&').skip(1) {
            prop_assert!(["amp;", "lt;", "gt;"].iter().any(|entity| after.starts_with(entity)), "{}", escaped);
        }
        let lines: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let log = excerpt(&lines, limit.max(10), slack).unwrap_or_default();
        prop_assert!(log.chars().count() <= limit.max(10) && !log.contains("```"));
        let subject = ascii(&text, 100);
        prop_assert!((1..=100).contains(&subject.len()) && subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
}
