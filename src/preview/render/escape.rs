//! Text of a repository or of AWS in Markdown and on a terminal: nothing in it has a meaning there, and it is cut after it
//! is escaped. Pure.

/// The end of a text that was cut.
const MORE: char = '…';

/// Text in which Markdown and HTML have no meaning, no user is mentioned and nothing becomes a link. It has at most this
/// many bytes.
pub fn escape(text: &str, most: usize) -> String {
    let text = visible(text);
    fill(text.char_indices().map(|(at, char)| piece(&text, at, char)), most)
}

/// A line of a fence, which it cannot end. It has at most this many bytes.
pub fn literal(text: &str, most: usize) -> String {
    fill(visible(text).replace("```", "'''").chars().map(|char| char.to_string()), most)
}

/// One line in which every character is visible.
pub fn visible(text: &str) -> String {
    // Two separators of Unicode end a line, too.
    let is_end = |char: char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}');
    let shown = text.chars().filter(|char| !is_format(*char));
    shown.map(|char| if is_end(char) { ' ' } else { char }).collect()
}

/// Joins whole pieces as long as there is room.
fn fill(pieces: impl Iterator<Item = String>, most: usize) -> String {
    let mut text = String::new();
    // Where the text ends if it must be cut.
    let mut end = 0;
    for piece in pieces {
        if text.len() + piece.len() > most {
            text.truncate(end);
            text.push(MORE);
            return text;
        }
        text.push_str(&piece);
        if text.len() + MORE.len_utf8() <= most {
            end = text.len();
        }
    }
    text
}

/// One character of a text, escaped where it could mean something. A zero-width space separates what forges would link:
/// they look for mentions and references in the decoded text.
fn piece(text: &str, at: usize, char: char) -> String {
    match char {
        '@' | '#' | '!' | '&' | '~' | '%' | '$' | '^' => format!("&#{};&#8203;", u32::from(char)),
        '<' | '>' | '|' | '`' | '*' | '_' | '[' | ']' | '\\' => format!("&#{};", u32::from(char)),
        ':' if text[at..].starts_with("://") => ":&#8203;".to_owned(),
        '.' if text[..at].to_ascii_lowercase().ends_with("www") => "&#8203;.".to_owned(),
        char if char.is_ascii_digit() && is_reference(&text[..at]) => format!("&#8203;{char}"),
        char => char.to_string(),
    }
}

/// Whether a number after this text refers to an issue: of GitHub after `GH-`, and of other trackers after `TEAM-`.
fn is_reference(before: &str) -> bool {
    let Some(word) = before.strip_suffix('-') else { return false };
    let word = word.rsplit(|char: char| !char.is_ascii_alphanumeric()).next().unwrap_or_default();
    let is_key = word.starts_with(|char: char| char.is_ascii_uppercase());
    is_key && !word.contains(|char: char| char.is_ascii_lowercase()) || word.eq_ignore_ascii_case("gh")
}

/// Whether a character has no form of its own (category Cf of Unicode): it changes the direction of the text, is not
/// visible, or hides text.
fn is_format(char: char) -> bool {
    matches!(char, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_whole_pieces() {
        assert_eq!(escape("a<b", 7), "a&#60;b");
        assert_eq!(escape("a<b", 6), "a…");
        assert_eq!(escape("<<<<", 12), "&#60;…");
        assert_eq!(literal("äääää", 8), "ää…");
        assert_eq!(literal("ok", 2), "ok");
        for most in 3..40 {
            assert!(escape("@team <b>äöü</b> #1 [x](y)", most).len() <= most);
        }
    }

    #[test]
    fn nothing_in_a_text_has_a_meaning() {
        let text = escape("@team !1 #2 a\u{202e}b\nc", 200);
        assert_eq!(text, "&#64;&#8203;team &#33;&#8203;1 &#35;&#8203;2 ab c");
        assert_eq!(literal("a `\u{200b}`` b\u{2066}\r", 200), "a ''' b ");
        assert_eq!(escape("https://a.b WWW.c d: e.", 200), "https:&#8203;//a.b WWW&#8203;.c d: e.");
        assert_eq!(
            escape("~bug %9 $10 ^11", 200),
            "&#126;&#8203;bug &#37;&#8203;9 &#36;&#8203;10 &#94;&#8203;11"
        );
        assert_eq!(escape("GH-12 gh-7 OPS2-30", 200), "GH-&#8203;12 gh-&#8203;7 OPS2-&#8203;30");
        assert_eq!(escape("ami-0123 x86-64 v1.31", 200), "ami-0123 x86-64 v1.31");
    }

    #[test]
    fn every_character_is_visible() {
        let hidden = "a\u{202E}b\u{2066}c\u{200B}d\u{FEFF}e\u{E0041}f\u{AD}g";
        assert_eq!(visible(hidden), "abcdefg");
        assert_eq!(visible("a\nb\u{1B}[31mc\u{2028}d"), "a b [31mc d");
    }
}
