//! Text of a repository or of AWS in Markdown: nothing in it has a meaning there, and it is cut after it is escaped.

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

/// Without characters that change how the text around them is shown.
fn visible(text: &str) -> String {
    let shown = text.chars().filter(|char| !is_format(*char));
    shown.map(|char| if char.is_control() { ' ' } else { char }).collect()
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

/// One character of a text, escaped where it could mean something.
fn piece(text: &str, at: usize, char: char) -> String {
    match char {
        // A zero-width space behind it, because some forges look for mentions and references in the decoded text.
        '@' | '#' | '!' => format!("&#{};&#8203;", u32::from(char)),
        '&' | '<' | '>' | '|' | '`' | '*' | '_' | '[' | ']' | '~' | '\\' | '$' => {
            format!("&#{};", u32::from(char))
        }
        ':' if text[at..].starts_with("://") => "&#58;".to_owned(),
        '.' if text[..at].to_ascii_lowercase().ends_with("www") => "&#46;".to_owned(),
        char => char.to_string(),
    }
}

fn is_format(char: char) -> bool {
    matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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
        assert_eq!(escape("https://a.b WWW.c d: e.", 200), "https&#58;//a.b WWW&#46;c d: e.");
    }
}
