//! Where a problem is in its file: the line, and the part of it that the message is about. Pure.

use std::ops::Range;

/// The part of a line that a message is about: the key that ends the path at its start, else everything that is written.
pub fn part(line: &str, message: &str) -> Range<usize> {
    let start = line.len() - line.trim_start().len();
    let whole = start..line.trim_end().len().max(start);
    let path = message.split_once(": ").map(|(path, _)| path).filter(|path| !path.contains(' '));
    let step = path.and_then(|path| path.rsplit(['.', '[']).find(|step| !step.ends_with(']')));
    step.filter(|step| !step.is_empty()).and_then(|step| key(line, step)).unwrap_or(whole)
}

/// The number of a byte of a line as editors count: characters, from 1.
pub fn column(line: &str, byte: usize) -> usize {
    line.get(..byte).map_or(1, |before| before.chars().count() + 1)
}

/// Where a line has a key.
fn key(line: &str, name: &str) -> Option<Range<usize>> {
    let is_key = |at: &usize| {
        let is_start = !line[..*at].ends_with(|char: char| char.is_alphanumeric() || "_-./".contains(char));
        is_start && line[*at + name.len()..].trim_start_matches(['"', '\'']).trim_start().starts_with(':')
    };
    let found = line.match_indices(name).map(|(at, _)| at).find(is_key)?;
    Some(found..found + name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_path_is_marked() {
        for (line, message, expected) in [
            ("  bogus: 1", "spec.bogus: unknown field", "bogus"),
            ("  - {name: a, bogus : 1}", "spec.amiFilters[0].bogus: unknown field", "bogus"),
            ("    \"region\": 1", "spec.region: must be a string", "region"),
            ("  region: region", "spec.region: unknown", "region"),
            ("  - x  ", "spec.exclude[0]: must not be empty", "- x"),
            ("  a: b: c  ", "is not YAML (mapping values are not allowed)", "a: b: c"),
            ("  subregion: 1", "spec.region: is required", "subregion: 1"),
            ("", "is empty", ""),
        ] {
            assert_eq!(&line[part(line, message)], expected, "{line:?} {message:?}");
        }
        assert_eq!(part("  region: region", "spec.region: x"), 2..8, "the key and not the value");
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!((column("äb: 1", 0), column("äb: 1", 2), column("", 5)), (1, 2, 1));
    }
}
