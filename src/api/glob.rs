//! Globs from a commit, compiled to matchers. Anyone who can push can write one, so its length is limited, and a glob
//! whose matcher would be too large is an error, whereas globset's own matcher would panic.

use globset::{GlobBuilder, GlobSet};

/// Maximum length of a glob in bytes: more than any real path needs. Nested alternatives of a much longer glob overflow
/// the stack.
const LIMIT: usize = 1024;

/// A compiled glob. `*` and `?` do not match `/`.
#[derive(Clone, Debug)]
pub struct Matcher(GlobSet);

impl Matcher {
    /// Compiles a glob.
    ///
    /// # Errors
    /// Returns what is wrong with the glob.
    pub fn new(glob: &str) -> Result<Self, String> {
        if glob.len() > LIMIT {
            return Err(format!("it has {} bytes, more than {LIMIT}", glob.len()));
        }
        let words = |error: globset::Error| error.kind().to_string();
        let glob = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
        GlobSet::new([glob.map_err(words)?]).map(Self).map_err(words)
    }

    pub fn is_match(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_that_is_too_large_is_an_error() {
        for glob in ["?".repeat(10 << 20), "{".repeat(100_000), "[a-".to_owned()] {
            assert!(Matcher::new(&glob).is_err());
        }
        let nested = "{".repeat(500) + &"}".repeat(500);
        assert!(Matcher::new(&nested).is_ok_and(|it| !it.is_match("a")));
    }

    #[test]
    fn a_star_ends_at_a_slash() {
        let matcher = Matcher::new("a/*").expect("a glob");
        assert_eq!(["a/b", "a/b/c"].map(|path| matcher.is_match(path)), [true, false]);
    }
}
