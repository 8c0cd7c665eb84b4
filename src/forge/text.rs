//! Texts that a forge stores: markers in their first line, comparison and length. Pure.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::text;

const START: &str = "<!-- ";
const END: &str = " -->";

/// Returns a line that people do not see: an HTML comment with a name and JSON, which nothing in the values can end.
pub fn marker(name: &str, value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    format!("{START}{name} {}{END}", json.replace('<', "\\u003c").replace('>', "\\u003e"))
}

/// Reads the marker in the first line of a text.
pub fn read_marker<T: DeserializeOwned>(name: &str, text: &str) -> Option<T> {
    let line = text.lines().next()?.trim_end();
    let json = line.strip_prefix(START)?.strip_prefix(name)?.strip_suffix(END)?;
    serde_json::from_str(json).ok()
}

/// Returns a text without the marker in its first line, if it has one.
pub fn without_marker(name: &str, text: &str) -> String {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let is_marker = line.strip_prefix(START).is_some_and(|line| line.starts_with(name));
    if is_marker { rest.to_owned() } else { text.to_owned() }
}

/// Returns whether two texts are equal as a forge stores them, which can change line ends and the end of a text.
pub fn is_same(one: &str, other: &str) -> bool {
    let lines = |text: &str| text.trim_end().replace("\r\n", "\n");
    lines(one) == lines(other)
}

/// Returns one line of at most this many characters. A shortened one ends with an ellipsis.
pub fn one_line(text: &str, most: usize) -> String {
    let line = text::one_line(text);
    if line.chars().count() <= most {
        return line;
    }
    let start: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", start.trim_end())
}
