//! What notifications need of an object, for both kinds. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::announce::{self, Context, Origin, Story};
use crate::api::notifier::Notifier;
use crate::api::{AMIRefresher, AMIRefresherStatus, ObjectKey, PackerBuilder, PackerBuilderStatus};

/// An object whose status people are notified of.
pub trait Notified<S> {
    fn notifier(&self) -> Option<&Notifier>;
    /// The default region of sinks in AWS.
    fn region(&self) -> Option<&str>;
    fn metadata(&self) -> &ObjectMeta;
    fn stories(&self, name: &ObjectKey, status: &S, context: Context<'_>) -> Vec<Story>;
    /// The commits that the stories name. `origin` returns where an image comes from.
    fn commits(&self, status: &S, origin: &dyn Fn(&str) -> Option<Origin>) -> BTreeSet<String>;
}

impl Notified<PackerBuilderStatus> for PackerBuilder {
    fn notifier(&self) -> Option<&Notifier> {
        self.spec.notifier.as_ref()
    }

    fn region(&self) -> Option<&str> {
        self.spec.region.as_deref()
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn stories(&self, name: &ObjectKey, status: &PackerBuilderStatus, context: Context<'_>) -> Vec<Story> {
        announce::builder::stories(name, &self.spec, status, context)
    }

    fn commits(&self, status: &PackerBuilderStatus, _: &dyn Fn(&str) -> Option<Origin>) -> BTreeSet<String> {
        announce::builder::commits(status)
    }
}

impl Notified<AMIRefresherStatus> for AMIRefresher {
    fn notifier(&self) -> Option<&Notifier> {
        self.spec.notifier.as_ref()
    }

    fn region(&self) -> Option<&str> {
        Some(&self.spec.region)
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn stories(&self, name: &ObjectKey, status: &AMIRefresherStatus, context: Context<'_>) -> Vec<Story> {
        announce::refresher::stories(name, &self.spec, status, context)
    }

    fn commits(
        &self,
        status: &AMIRefresherStatus,
        origin: &dyn Fn(&str) -> Option<Origin>,
    ) -> BTreeSet<String> {
        announce::refresher::commits(status, origin)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{Key, Kind};

    fn name(kind: Kind) -> ObjectKey {
        ObjectKey { kind, key: Key { namespace: "default".into(), name: "web".into() } }
    }

    /// Every image comes from a commit of its name.
    fn origin(image: &str) -> Option<Origin> {
        Some(Origin { builder: "web".to_owned(), commit: Some(format!("of-{image}")) })
    }

    /// The commits that the stories of a status ask for.
    fn asked(kind: Kind, stories: impl Fn(&ObjectKey, Context<'_>) -> Vec<Story>) -> BTreeSet<String> {
        let asked = RefCell::new(BTreeSet::new());
        let change = |id: &str| {
            asked.borrow_mut().insert(id.to_owned());
            None
        };
        let context = Context { now: Timestamp::UNIX_EPOCH, commit: None, change: &change, origin: &origin };
        assert_ne!(stories(&name(kind), context), []);
        asked.into_inner()
    }

    fn set(commits: &[&str]) -> BTreeSet<String> {
        commits.iter().map(|commit| (*commit).to_owned()).collect()
    }

    #[test]
    fn the_commits_of_a_builder_are_those_that_its_stories_name() {
        let builder = PackerBuilder::new("web", serde_json::from_value(json!({})).expect("a spec"));
        let run = |id: &str, result: &str, why: &str| {
            let commit = format!("of-{id}");
            json!({"id": id, "result": result, "why": why, "commit": commit})
        };
        let failing = json!([
            run("b6", "Failed", "Retry"),
            run("b5", "TimedOut", "Retry"),
            run("b4", "Failed", "Template"),
            run("b3", "Succeeded", "Expired"),
            run("b2", "Cancelled", "Spec"),
            run("b1", "Succeeded", "Missing"),
        ]);
        let live = json!({"buildID": "b7", "jobStatus": "Running", "reason": "Retry", "commit": "of-b7",
            "history": failing});
        for (status, due) in [
            (json!({ "history": failing }), set(&["of-b6", "of-b4", "of-b3", "of-b2"])),
            (live, set(&["of-b7", "of-b4", "of-b3", "of-b2"])),
            (json!({"history": [{"id": "b1", "result": "Succeeded", "why": "Missing"}]}), set(&[])),
        ] {
            let status: PackerBuilderStatus = serde_json::from_value(status).expect("a status");
            let named = builder.commits(&status, &origin);
            assert_eq!(named, due);
            let stories = |name: &ObjectKey, context: Context<'_>| builder.stories(name, &status, context);
            assert_eq!(named, asked(Kind::PackerBuilder, stories));
        }
    }

    #[test]
    fn the_commits_of_a_refresher_are_those_its_images_were_built_from() {
        let spec = json!({"region": "us-east-1", "clusterName": "demo"});
        let refresher = AMIRefresher::new("web", serde_json::from_value(spec).expect("a spec"));
        let record = |id: &str, target: &str| json!({"id": id, "target": target, "result": "Done"});
        let status: Value = json!({
            "rollout": {"id": "r4", "target": "ami-4"},
            "history": [record("r3", "ami-3"), record("r2", "ami-2"), record("r1", "ami-1")],
        });
        let status: AMIRefresherStatus = serde_json::from_value(status).expect("a status");
        let named = refresher.commits(&status, &origin);
        assert_eq!(named, set(&["of-ami-4", "of-ami-3", "of-ami-2"]));
        let stories = |name: &ObjectKey, context: Context<'_>| refresher.stories(name, &status, context);
        assert_eq!(named, asked(Kind::AMIRefresher, stories));
        assert_eq!(refresher.commits(&status, &|_| None), set(&[]), "other images have no known commit");
    }
}
