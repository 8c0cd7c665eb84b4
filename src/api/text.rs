//! Text that others wrote, as a part of output: used by tables, commit messages and pull requests. Pure.

/// Returns the text in one line: line breaks and repeated spaces become one space.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the text in one line, with all of its spaces: columns stay aligned, and names of files as they are.
pub fn without_line_breaks(text: &str) -> String {
    text.replace("\r\n", " ").replace(['\n', '\r'], " ")
}
