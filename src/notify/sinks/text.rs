//! Text for sinks: cleaned, escaped and shortened, so that nothing that a template or a log printed can break a
//! message, forge a line in it, or ping people. Pure.

use reqwest::Url;

/// Marks text that was shortened.
const MARK: char = '…';
/// Maximum length of a link. Slack rejects longer ones, and a shortened link is useless.
const ADDRESS: usize = 1000;

/// Writes one character, escaped.
type Write = fn(char, &mut String);

/// Escapes a text and shortens it to at most `limit` characters. An escape sequence is never split.
pub(super) fn fit(text: &str, limit: usize, write: Write) -> String {
    let (mut out, mut count, mut room_for_mark) = (String::new(), 0, 0);
    for c in text.chars() {
        let before = out.len();
        write(c, &mut out);
        count += out[before..].chars().count();
        if count > limit {
            out.truncate(room_for_mark);
            out.extend((limit > 0).then_some(MARK));
            return out;
        }
        if count < limit {
            room_for_mark = out.len();
        }
    }
    out
}

/// Writes the character unchanged.
pub(super) fn plain(c: char, out: &mut String) {
    out.push(c);
}

/// Escapes the three characters that Slack interprets everywhere. Without them, `<!channel>` and other mentions have no
/// effect.
pub(super) fn slack(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    }
}

/// Escapes Markdown, and breaks mentions by a zero-width space after each `@`.
pub(super) fn discord(c: char, out: &mut String) {
    if matches!(c, '\\' | '`' | '*' | '_' | '~' | '|' | '[' | ']' | '(' | ')' | '<' | '>' | '#') {
        out.push('\\');
    }
    out.push(c);
    if c == '@' {
        out.push('\u{200b}');
    }
}

/// Removes terminal sequences, control characters except for line ends and tabs, and marks that change the direction of
/// writing and could disguise a line. Replaces code fences.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut chars),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\n' | '\t' => out.push(c),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.replace("```", "'''")
}

/// Skips the rest of a terminal sequence, after its escape character.
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        // Colors and cursor movements: parameters, then one letter.
        Some('[') => while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {},
        // Titles and links: a command that ends with BEL or `ESC \`.
        Some(']') => {
            while chars.next_if(|c| !matches!(c, '\u{7}' | '\u{1b}' | '\n')).is_some() {}
            if chars.next_if_eq(&'\u{1b}').is_none() {
                return;
            }
        }
        _ => return,
    }
    chars.next_if(|c| *c != '\n');
}

/// Cleans a text and joins its lines.
pub(super) fn line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns lines of a log in at most `limit` characters, or `None` if they are empty. If they do not fit, the last
/// lines are retained, because a log ends with the error.
pub(super) fn excerpt(lines: &[String], limit: usize, write: Write) -> Option<String> {
    /// Maximum length of one line, so that a dump of data in one line does not displace all others.
    const LINE: usize = 500;
    let cleaned: Vec<String> = lines.iter().map(|line| clean(line)).collect();
    let lines: Vec<&str> = cleaned.iter().flat_map(|line| line.lines()).map(str::trim_end).collect();
    let first = lines.iter().position(|line| !line.is_empty())?;
    let last = lines.iter().rposition(|line| !line.is_empty())?;
    let mark = 2;
    let (mut kept, mut count) = (Vec::new(), mark);
    for line in lines[first..=last].iter().rev() {
        let line = fit(line, LINE.min(limit.saturating_sub(mark)), write);
        count += line.chars().count() + usize::from(!kept.is_empty());
        if count > limit {
            kept.push(MARK.to_string());
            break;
        }
        kept.push(line);
    }
    kept.reverse();
    Some(kept.join("\n"))
}

/// Returns a text as one line of ASCII with at most `limit` characters, for subjects. The result is never empty.
pub(super) fn ascii(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for c in line(text).chars() {
        match c {
            ' '..='~' => out.push(c),
            '…' => out.push_str("..."),
            '→' => out.push_str("->"),
            '‐'..='―' => out.push('-'),
            '‘' | '’' => out.push('\''),
            '“' | '”' | '„' => out.push('"'),
            _ => out.push('?'),
        }
    }
    if out.len() > limit {
        out.truncate(limit.saturating_sub(3));
        out.truncate(out.trim_end().len());
        out.push_str("...");
    }
    if out.is_empty() { "-".to_owned() } else { out }
}

/// Returns a link, encoded so that it cannot end any markup around it. Only http and https links are allowed.
pub(super) fn address(url: &str) -> Option<String> {
    let url = Url::parse(url.trim()).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https");
    if !is_web || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let mut out = String::new();
    for c in url.as_str().chars() {
        match c {
            '|' => out.push_str("%7C"),
            '(' => out.push_str("%28"),
            ')' => out.push_str("%29"),
            '<' => out.push_str("%3C"),
            '>' => out.push_str("%3E"),
            '`' => out.push_str("%60"),
            c => out.push(c),
        }
    }
    (out.len() <= ADDRESS).then_some(out)
}
