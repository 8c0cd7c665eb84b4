//! The image owners of a query: from the filters of a manifest to the owners of DescribeImages. Pure; both reconcilers'
//! specs use it.

use super::Filter;

/// Image owners if the filters name none. Otherwise all public images would be searched.
const DEFAULT_OWNERS: [&str; 2] = ["self", "amazon"];
const ID: &str = "owner-id";
const ALIAS: &str = "owner-alias";

/// Splits filters into image owners and the rest. EC2 combines owners with OR and filters with AND, so only one filter
/// becomes the owners: the alias if one is named, else the IDs. Any other one stays a filter, and so does one with a
/// wildcard, which an owner cannot have.
pub fn split(filters: Vec<Filter>) -> (Vec<String>, Vec<Filter>) {
    let names_owners = |filter: &Filter, name: &str| filter.name == name && !has_wildcard(filter);
    let chosen = [ALIAS, ID].iter().find_map(|name| filters.iter().position(|f| names_owners(f, name)));
    let mut rest = filters;
    let owners = chosen.map(|index| rest.remove(index).values);
    let mut owners = owners.unwrap_or_else(|| DEFAULT_OWNERS.map(str::to_owned).to_vec());
    owners.sort();
    owners.dedup();
    (owners, rest)
}

/// Returns whether this filter selects the owner of an image.
pub fn is_owner(filter: &Filter) -> bool {
    matches!(filter.name.as_str(), ID | ALIAS)
}

fn has_wildcard(filter: &Filter) -> bool {
    filter.values.iter().any(|value| value.contains(['*', '?']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits filters that are written as `name=value,value`.
    fn of(words: &[&str]) -> (Vec<String>, Vec<String>) {
        let filter = |word: &&str| {
            let (name, values) = word.split_once('=').expect("written so");
            Filter { name: name.to_owned(), values: values.split(',').map(str::to_owned).collect() }
        };
        let (owners, rest) = split(words.iter().map(filter).collect());
        let word = |filter: Filter| format!("{}={}", filter.name, filter.values.join(","));
        (owners, rest.into_iter().map(word).collect())
    }

    #[test]
    fn owners_come_from_one_filter_and_all_others_stay_filters() {
        let defaults = &["amazon", "self"][..];
        let cases: [(&[&str], &[&str], &[&str]); 8] = [
            (&["name=a*"], defaults, &["name=a*"]),
            (&["name=a*", "owner-id=2,1"], &["1", "2"], &["name=a*"]),
            (&["owner-alias=amazon", "name=a*"], &["amazon"], &["name=a*"]),
            (&["owner-id=1", "owner-alias=amazon", "name=a*"], &["amazon"], &["owner-id=1", "name=a*"]),
            (&["owner-id=1", "owner-id=1,2"], &["1"], &["owner-id=1,2"]),
            (&["owner-id=60*", "name=a*"], defaults, &["owner-id=60*", "name=a*"]),
            (&["owner-alias=ama?on", "owner-id=1"], &["1"], &["owner-alias=ama?on"]),
            (&["owner-id=self"], &["self"], &[]),
        ];
        for (written, owners, filters) in cases {
            let (found, rest) = of(written);
            assert_eq!((found, rest), (owners.map_owned(), filters.map_owned()), "{written:?}");
        }
    }

    trait Owned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl Owned for [&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|word| (*word).to_owned()).collect()
        }
    }
}
