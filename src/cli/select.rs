//! Selects some of the objects that were read, by name, kind and label.

mod labels;

use std::collections::BTreeMap;
use std::str::FromStr;

use clap_complete::ArgValueCompleter;
use kube::core::{Selector, SelectorExt as _};

use super::completion;
use super::objects::Object;
use super::target::{self, BadTarget, Target};
use crate::api::files::file_stem;
use crate::api::{Kind, ObjectKey};

#[derive(clap::Args)]
pub struct SelectFlags {
    /// Objects (pb/node ar/demo) or kinds (builders, refreshers); default: all
    #[arg(value_name = "KIND[/NAME]", value_delimiter = ',', add = ArgValueCompleter::new(completion::complete))]
    wanted: Vec<Wanted>,
    /// Select objects by label, such as team=web,env!=test
    #[arg(long, short = 'l', value_name = "SELECTOR", value_parser = labels::parse)]
    selector: Option<Selector>,
}

/// What an argument selects.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Kind(Kind),
    Object(Target),
}

impl FromStr for Wanted {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        match text.contains('/') {
            true => text.parse().map(Self::Object),
            false => target::kind_of(text).map(Self::Kind),
        }
    }
}

impl Wanted {
    fn matches(&self, object: &ObjectKey) -> bool {
        match self {
            Self::Kind(kind) => *kind == object.kind,
            Self::Object(target) => target.kind == object.kind && target.name == object.key.name,
        }
    }

    fn may_be(&self, unreadable: &ObjectKey) -> bool {
        match self {
            Self::Kind(kind) => *kind == unreadable.kind,
            Self::Object(target) => may_be(unreadable, target),
        }
    }
}

/// Whether an object that cannot be read may be this one: of a long name, only that of its file is known.
pub fn may_be(unreadable: &ObjectKey, target: &Target) -> bool {
    let name = &unreadable.key.name;
    target.kind == unreadable.kind && (*name == target.name || *name == file_stem(&target.name))
}

impl SelectFlags {
    /// Retains the selected objects. Returns those that are named and do not exist. The labels of an object that cannot
    /// be read are unknown, so it may be selected.
    pub fn select(
        &self,
        objects: &mut Vec<Object>,
        unreadable: &mut BTreeMap<ObjectKey, String>,
    ) -> Vec<String> {
        let exists = |wanted: &Wanted| {
            objects.iter().any(|one| wanted.matches(&one.id))
                || unreadable.keys().any(|object| wanted.may_be(object))
        };
        let missing = self.wanted.iter().filter_map(|wanted| match wanted {
            Wanted::Object(target) if !exists(wanted) => Some(target.to_string()),
            _ => None,
        });
        let missing = missing.collect();
        objects.retain(|one| {
            let is_wanted =
                self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted.matches(&one.id));
            is_wanted && self.selector.as_ref().is_none_or(|selector| selector.matches(&one.labels))
        });
        unreadable.retain(|object, _| {
            self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted.may_be(object))
        });
        missing
    }

    /// Whether all objects are selected.
    pub fn is_all(&self) -> bool {
        self.wanted.is_empty() && self.selector.is_none()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api::Key;

    #[test]
    fn names_kinds_and_labels_select_and_a_missing_name_is_reported() {
        let object = |kind, name: &str, team: &str| Object {
            labels: BTreeMap::from([("team".to_owned(), team.to_owned())]),
            ..Object::new(
                ObjectKey { kind, key: Key { namespace: "default".to_owned(), name: name.to_owned() } },
                Value::Null,
                Value::Null,
            )
        };
        let selected = |wanted: &[&str], labels: Option<&str>| {
            let wanted = wanted.iter().map(|text| text.parse().expect("a target")).collect();
            let selector = labels.map(|labels| labels::parse(labels).expect("a selector"));
            let mut objects = vec![
                object(Kind::PackerBuilder, "a", "web"),
                object(Kind::PackerBuilder, "b", "data"),
                object(Kind::AMIRefresher, "a", "web"),
            ];
            let broken = object(Kind::PackerBuilder, "broken", "").id;
            let mut unreadable = BTreeMap::from([(broken, "why".to_owned())]);
            let missing = SelectFlags { wanted, selector }.select(&mut objects, &mut unreadable);
            let shown = objects.iter().map(|one| format!("{}/{}", one.id.kind.short(), one.id.key.name));
            let shown = shown.chain(unreadable.keys().map(|object| object.key.name.clone()));
            (shown.collect::<Vec<_>>().join(" "), missing.join(" "))
        };
        let found = |names: &str| (names.to_owned(), String::new());
        assert_eq!(selected(&["pb/broken"], None), found("broken"), "it exists");
        assert_eq!(selected(&[], None), found("pb/a pb/b ar/a broken"));
        assert_eq!(selected(&["builders"], None), found("pb/a pb/b broken"));
        assert_eq!(selected(&["pb/b", "refreshers"], None), found("pb/b ar/a"));
        assert_eq!(selected(&[], Some("team=web")), found("pb/a ar/a broken"));
        assert_eq!(selected(&["pb"], Some("team=web")), found("pb/a broken"));
        let (shown, missing) = selected(&["pb/a", "ar/b"], None);
        assert_eq!((shown.as_str(), missing.as_str()), ("pb/a", "AMIRefresher/b"));
        assert!("nodes".parse::<Wanted>().is_err());
    }
}
