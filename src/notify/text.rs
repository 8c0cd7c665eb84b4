//! Words made fit for a sink: cleaned, escaped and cut, so that nothing a template or a log printed can
//! break a message, forge a line of it, or ping anybody. Pure.

use reqwest::Url;

/// Ends what was cut.
const MARK: char = '…';
/// Browsers and Slack take no longer address; a cut one leads nowhere.
const ADDRESS: usize = 1000;

/// What a character becomes.
type Write = fn(char, &mut String);

/// Writes `text` in at most `limit` characters. What one character became is never split.
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

/// As it is.
pub(super) fn plain(c: char, out: &mut String) {
    out.push(c);
}

/// The three characters that mean something to Slack wherever they stand; `<!channel>` and its like are
/// nothing without them.
pub(super) fn slack(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    }
}

/// Markdown without effect, and mentions that name nobody: a space of no width follows each `@`.
pub(super) fn discord(c: char, out: &mut String) {
    if matches!(c, '\\' | '`' | '*' | '_' | '~' | '|' | '[' | ']' | '(' | ')' | '<' | '>' | '#') {
        out.push('\\');
    }
    out.push(c);
    if c == '@' {
        out.push('\u{200b}');
    }
}

/// Without terminal sequences, control characters but line ends and tabs, and marks that turn the
/// direction of writing and so make a line read as another. No fence of a block of code is left in it.
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

/// Past a terminal sequence whose escape character was read.
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        // Parameters, then one letter: colours, cursor movements.
        Some('[') => while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {},
        // A command up to a bell or `ESC \`: titles, links.
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

/// Cleaned, and in one line.
pub(super) fn line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines of a log in at most `limit` characters: where they do not fit the last ones stay, since a log
/// ends with what went wrong. Nothing, where nothing was printed.
pub(super) fn excerpt(lines: &[String], limit: usize, write: Write) -> Option<String> {
    /// A dump of data in one line must not push out all others.
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

/// One line of ASCII in at most `limit` characters, for subjects. Never empty.
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

/// An address to click on, written so that no markup can end in it; nothing but http(s) is one.
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
