//! Label selectors as kubectl reads them: `team=web,env!=test,tier in (a,b),!legacy`. Pure.

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

/// Why a string is not a valid label selector.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a valid requirement; use KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY"
)]
pub struct BadSelector(String);

/// Parses a selector. An object must meet all of its requirements.
pub fn parse(text: &str) -> Result<Selector, BadSelector> {
    requirements(text).into_iter().map(requirement).collect()
}

/// Splits at the commas outside of parentheses.
fn requirements(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, char) in text.char_indices() {
        match char {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts.into_iter().map(str::trim).collect()
}

fn requirement(text: &str) -> Result<Expression, BadSelector> {
    let bad = || BadSelector(text.to_owned());
    let key = |key: &str| valid(key, "-_./").filter(|key| !key.is_empty()).ok_or_else(bad);
    let value = |value: &str| valid(value, "-_.").ok_or_else(bad);
    if let Some(absent) = text.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key(absent)?));
    }
    if let Some((left, set)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let set = set.split(',').map(value).collect::<Result<BTreeSet<_>, _>>()?;
        let words: Vec<&str> = left.split_whitespace().collect();
        return match words[..] {
            [name, "in"] => Ok(Expression::In(key(name)?, set)),
            [name, "notin"] => Ok(Expression::NotIn(key(name)?, set)),
            _ => Err(bad()),
        };
    }
    if let Some((name, other)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value(other)?));
    }
    match text.split_once("==").or_else(|| text.split_once('=')) {
        Some((name, equal)) => Ok(Expression::Equal(key(name)?, value(equal)?)),
        None => Ok(Expression::Exists(key(text)?)),
    }
}

/// The trimmed text, if it consists of letters, digits and these characters.
fn valid(text: &str, others: &str) -> Option<String> {
    let text = text.trim();
    let allowed = |char: char| char.is_ascii_alphanumeric() || others.contains(char);
    text.chars().all(allowed).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::SelectorExt as _;

    use super::*;

    #[test]
    fn each_form_selects_as_kubectl_does() {
        let labels = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let web = labels(&[("team", "web"), ("example.com/tier", "a")]);
        for (selector, of_web, of_none) in [
            ("team=web", true, false),
            ("team == web", true, false),
            ("team!=web", false, true),
            ("team", true, false),
            ("!team", false, true),
            ("example.com/tier in (a, b)", true, false),
            ("example.com/tier notin (a,b)", false, true),
            ("team=web, example.com/tier in (a,b)", true, false),
            ("team=web,example.com/tier=c", false, false),
        ] {
            let parsed = parse(selector).expect(selector);
            assert_eq!((parsed.matches(&web), parsed.matches(&labels(&[]))), (of_web, of_none), "{selector}");
        }
    }

    #[test]
    fn a_requirement_that_cannot_be_read_is_named() {
        for bad in ["", "=web", "team=we b", "team like (a)", "team>web", "a=b,"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let error = parse("a=b,team like (a)").expect_err("no operator").to_string();
        assert!(error.starts_with("\"team like (a)\" is not a valid requirement; use KEY=VALUE"), "{error}");
    }
}
