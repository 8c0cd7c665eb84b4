//! The settings in `opsy.yaml` that differ between two trees, and what each change means: first those that move ownership
//! or allow the agent to do more. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::report::Setting;
use super::words::list;
use crate::settings::RepoSettings;

/// The settings of notifications have many fields. They are one setting, whose value is not shown.
const NOTIFIER: &str = "notifier";
/// Settings that are one value each, though they have fields.
const WHOLE: [&str; 2] = [NOTIFIER, "digest"];
/// The first settings of a report, in this order. The others follow in the order of their names.
const FIRST: [&str; 8] = [
    "agentID",
    "accounts",
    "prune.allowMass",
    "limits.allowMassBuild",
    "namespace",
    "statusPath",
    "setters.paths",
    "setters.json",
];

/// The settings that differ.
pub fn changes(before: &RepoSettings, after: &RepoSettings) -> Vec<Setting> {
    let (old, new) = (fields(before), fields(after));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    let place = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    names.sort_by_key(|name| (place(name), *name));
    names.dedup();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    changed.map(|name| setting(name, old.get(name), new.get(name))).collect()
}

/// The fields that are set, by their paths.
fn fields(settings: &RepoSettings) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    collect("", &serde_json::to_value(settings).unwrap_or_default(), &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !WHOLE.contains(&path) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&path, value, found);
            }
        }
        value => {
            found.insert(path.to_owned(), value.clone());
        }
    }
}

fn setting(name: &str, from: Option<&Value>, to: Option<&Value>) -> Setting {
    let shown = |value: Option<&Value>| value.filter(|_| name != NOTIFIER).map(written);
    let (from, to) = (shown(from), shown(to));
    let (effect, is_warning) = meaning(name, from.as_deref(), to.as_deref());
    Setting { name: name.to_owned(), from, to, effect, is_warning }
}

/// A value as a person writes it.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => list(items.iter().map(written)),
        Value::Object(fields) => list(fields.values().map(written)),
        other => other.to_string(),
    }
}

/// What a change means, and whether it is a warning.
fn meaning(name: &str, from: Option<&str>, to: Option<&str>) -> (String, bool) {
    let is_on = to == Some("true");
    match name {
        "agentID" => (owner(from, to), true),
        "accounts" => (accounts(from, to), true),
        "prune.allowMass" if is_on => {
            ("one commit can remove all objects: the guard against mass deletion is off".to_owned(), true)
        }
        "prune.allowMass" => {
            ("a commit that removes more than half of the objects is refused".to_owned(), false)
        }
        "limits.allowMassBuild" if is_on => (
            "builds start even if most builders have lost their images: the guard against that is off"
                .to_owned(),
            true,
        ),
        "limits.allowMassBuild" => {
            ("nothing is built if most builders have lost their images".to_owned(), false)
        }
        "namespace" => {
            let (from, to) = (from.unwrap_or("default"), to.unwrap_or("default"));
            let effect = format!(
                "manifests without a namespace declare objects in {to} instead of {from}, and the Secrets of notifications \
                 are read there"
            );
            (effect, true)
        }
        "statusPath" => {
            let to = to.unwrap_or("status");
            (
                format!(
                    "status files and amis.json are written to {to}; the old ones stay and are not updated"
                ),
                true,
            )
        }
        "setters.paths" | "setters.json" => {
            ("the agent may edit the values that refer to an image in these files".to_owned(), to.is_some())
        }
        _ => (other(name, to).to_owned(), false),
    }
}

fn owner(from: Option<&str>, to: Option<&str>) -> String {
    let derived = "an owner that is derived from the repository";
    let of = from.map_or_else(|| "of the owner so far".to_owned(), |from| format!("of {from}"));
    let with = to.map_or_else(|| derived.to_owned(), |to| format!("--agent-id {to}"));
    format!(
        "objects and images {of} no longer belong to this agent: it neither updates nor removes them, and builders whose \
         images they are need attention; a running agent refuses the commit until it is restarted with {with}"
    )
}

fn accounts(from: Option<&str>, to: Option<&str>) -> String {
    let split = |accounts: Option<&str>| -> Vec<String> {
        accounts.into_iter().flat_map(|accounts| accounts.split(", ").map(str::to_owned)).collect()
    };
    let (old, new) = (split(from), split(to));
    if new.is_empty() {
        return "the agent may use every account that its credentials reach".to_owned();
    }
    if old.is_empty() {
        return format!("the agent may use only {}", list(&new));
    }
    let added: Vec<&String> = new.iter().filter(|account| !old.contains(account)).collect();
    let removed: Vec<&String> = old.iter().filter(|account| !new.contains(account)).collect();
    let added = (!added.is_empty()).then(|| format!("the agent may use {}", list(added)));
    let removed = (!removed.is_empty()).then(|| format!("nothing is built in {} from now on", list(removed)));
    added.into_iter().chain(removed).collect::<Vec<_>>().join("; ")
}

/// What a change of another setting means. The values say the rest.
fn other(name: &str, to: Option<&str>) -> &'static str {
    match (name, to) {
        ("publish.enabled", Some("false")) => "status files and amis.json are no longer updated",
        ("publish.enabled", _) => "status files and amis.json are published",
        ("publish.mode", Some("PullRequest")) => "status is proposed by a pull request instead of committed",
        ("publish.mode", _) => "status is committed to the branch without a review",
        ("publish.errors", Some("false")) => "status files do not contain the errors of builds",
        ("publish.errors", _) => "status files contain the errors of builds",
        ("publish.branch", _) => {
            "status files and amis.json are on another branch; those on the old one are not updated"
        }
        ("publish.commitSuffix", None) => "the commits of the agent can start pipelines",
        ("publish.commitSuffix", _) => "the subjects of the agent's commits end with it",
        ("publish.quietPeriod", _) => "status is committed after another delay",
        ("author.name" | "author.email", _) => "the commits of the agent have another author",
        ("limits.concurrentBuilds", _) => "the number of builds that run at once (default 4)",
        ("notifier", _) => "the recipients of notifications of objects without a notifier of their own",
        ("digest", _) => "the time of the daily message",
        _ => "the agent uses the new value from the merge on",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(settings: Value) -> RepoSettings {
        serde_json::from_value(settings).expect("settings")
    }

    fn names(before: Value, after: Value) -> Vec<String> {
        let found = changes(&read(before), &read(after));
        found
            .into_iter()
            .map(|found| format!("{}{}", if found.is_warning { "!" } else { "" }, found.name))
            .collect()
    }

    #[test]
    fn what_moves_ownership_or_allows_more_comes_first() {
        let before = json!({ "agentID": "a", "limits": { "concurrentBuilds": 4 } });
        let after = json!({
            "agentID": "b", "author": { "name": "Bot" }, "limits": { "allowMassBuild": true },
            "prune": { "allowMass": true }, "publish": { "branch": "status" },
        });
        let expected = [
            "!agentID",
            "!prune.allowMass",
            "!limits.allowMassBuild",
            "author.name",
            "limits.concurrentBuilds",
            "publish.branch",
        ];
        assert_eq!(names(before.clone(), after), expected);
        assert_eq!(names(before.clone(), before), Vec::<String>::new());
    }

    #[test]
    fn another_owner_is_explained() {
        let change = |from: Value, to: Value| changes(&read(from), &read(to)).remove(0);
        let found = change(json!({ "agentID": "a" }), json!({ "agentID": "b" }));
        assert_eq!((found.from.as_deref(), found.to.as_deref()), (Some("a"), Some("b")));
        for part in ["images of a no longer belong to this agent", "restarted with --agent-id b"] {
            assert!(found.effect.contains(part), "{}", found.effect);
        }
        let removed = change(json!({ "agentID": "a" }), json!({}));
        assert!(removed.effect.contains("derived from the repository"), "{}", removed.effect);
    }

    #[test]
    fn guards_that_are_set_are_no_warning_and_accounts_are_named() {
        assert_eq!(names(json!({ "prune": { "allowMass": true } }), json!({})), ["prune.allowMass"]);
        let effect = |from: Value, to: Value| changes(&read(from), &read(to)).remove(0).effect;
        let account = |digit: &str| json!({ "accounts": [digit.repeat(12)] });
        let swapped = effect(account("1"), account("2"));
        assert_eq!(swapped, "the agent may use 222222222222; nothing is built in 111111111111 from now on");
        assert!(effect(account("1"), json!({})).contains("every account"));
    }

    #[test]
    fn a_notifier_is_one_setting() {
        let slack = |channel: &str| json!({ "notifier": { "slack": { "channelIDs": [channel], "secret": channel } } });
        let found = changes(&read(slack("one")), &read(slack("two")));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), &found[0].from, &found[0].to), ("notifier", &None, &None));
    }
}
