//! Active images of builders that the refreshers of their namespace hold: they are not rolled out. Pure.

use std::fmt;

use serde::Serialize;

use super::Object;
use crate::api::Kind;
use crate::api::builder::PackerBuilderStatus;
use crate::api::refresher::{FailedAmi, HeldAmi};

/// An active image of a builder that a refresher holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldImage {
    ami: String,
    /// The name of the refresher.
    refresher: String,
    reason: String,
}

impl fmt::Display for HeldImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is held by {}: {}", self.ami, self.refresher, self.reason)
    }
}

/// What a refresher holds: by its spec, and because a rollout failed.
struct Holding<'a> {
    refresher: &'a Object,
    by_person: Vec<HeldAmi>,
    failed: Vec<FailedAmi>,
}

/// Records in each builder which of its active images are held.
pub fn mark(objects: &mut [Object]) {
    let refreshers: Vec<Object> =
        objects.iter().filter(|object| object.id.kind == Kind::AMIRefresher).cloned().collect();
    let holding: Vec<Holding<'_>> = refreshers.iter().map(Holding::of).filter(Holding::is_any).collect();
    if holding.is_empty() {
        return;
    }
    for builder in objects.iter_mut().filter(|object| object.id.kind == Kind::PackerBuilder) {
        let of_namespace =
            holding.iter().filter(|one| one.refresher.id.key.namespace == builder.id.key.namespace);
        let status = builder.builder_status();
        builder.held = of_namespace.flat_map(|one| one.images(&status)).collect();
    }
}

impl<'a> Holding<'a> {
    fn of(refresher: &'a Object) -> Self {
        let by_person = serde_json::from_value(refresher.spec["held"].clone()).unwrap_or_default();
        let failed = refresher.refresher_status().held.unwrap_or_default();
        Self { refresher, by_person, failed }
    }

    fn is_any(&self) -> bool {
        !self.by_person.is_empty() || !self.failed.is_empty()
    }

    /// The active images of a builder that are held.
    fn images(&self, builder: &PackerBuilderStatus) -> Vec<HeldImage> {
        let active = builder.images.iter().flatten().filter(|image| image.gone != Some(true));
        let held = active.filter_map(|image| {
            let reason = self.reason(&image.id, builder.inputs_digest(&image.id).as_deref())?;
            let refresher = self.refresher.id.key.name.clone();
            Some(HeldImage { ami: image.id.clone(), refresher, reason })
        });
        held.collect()
    }

    /// Why an image is held that was built from inputs with this hash.
    fn reason(&self, image: &str, inputs: Option<&str>) -> Option<String> {
        if let Some(held) = self.by_person.iter().find(|held| held.ami.as_deref() == Some(image)) {
            return Some(held.reason.clone().unwrap_or_else(|| "listed in spec.held".to_owned()));
        }
        let why = |failed: &FailedAmi| failed.reason.clone().unwrap_or_else(|| "unknown".to_owned());
        if let Some(failed) = self.failed.iter().rev().find(|failed| failed.ami == image) {
            return Some(format!("its rollout failed: {}", why(failed)));
        }
        let is_same = |failed: &&FailedAmi| failed.inputs.is_some() && failed.inputs.as_deref() == inputs;
        let failed = self.failed.iter().rev().find(is_same)?;
        Some(format!(
            "it was built from the same inputs as {}, whose rollout failed: {}",
            failed.ami,
            why(failed)
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{Key, ObjectKey, tags};

    fn object(kind: Kind, namespace: &str, name: &str, spec: Value, status: Value) -> Object {
        let key = Key { namespace: namespace.to_owned(), name: name.to_owned() };
        Object::new(ObjectKey { kind, key }, spec, status)
    }

    /// What is said of the active image of a builder that a refresher with this spec and status holds.
    fn held(namespace: &str, spec: Value, status: Value) -> Vec<String> {
        let inputs = json!({"template": "t", "spec": "s", "baseAMI": "ami-b"});
        let lane = |id: &str, gone: bool| json!({"region": "us-east-1", "architecture": "x86_64", "id": id, "gone": gone});
        let builder = json!({"images": [lane("ami-1", false), lane("ami-2", true)], "inputs": inputs});
        let mut objects = [
            object(Kind::PackerBuilder, "a", "node", Value::Null, builder),
            object(Kind::AMIRefresher, namespace, "demo", spec, status),
        ];
        mark(&mut objects);
        assert_eq!(objects[1].held, []);
        objects[0].held.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_active_image_is_held_by_refreshers_of_its_namespace_with_their_reason() {
        let failed = |ami: &str, inputs: &str| json!({"held": [{"ami": ami, "reason": "web: NotReady", "inputs": inputs}]});
        let digest = tags::inputs_digest("t", "s", "ami-b");
        let own = "ami-1 is held by demo: its rollout failed: web: NotReady";
        assert_eq!(held("a", Value::Null, failed("ami-1", "x")), [own]);
        let same = "ami-1 is held by demo: it was built from the same inputs as ami-9, whose rollout failed: web: NotReady";
        assert_eq!(held("a", Value::Null, failed("ami-9", &digest)), [same]);
        let person = json!({"held": [{"ami": "ami-1", "reason": "CVE-1"}]});
        assert_eq!(held("a", person.clone(), Value::Null), ["ami-1 is held by demo: CVE-1"]);
        let unexplained = json!({"held": [{"ami": "ami-1"}]});
        assert_eq!(held("a", unexplained, Value::Null), ["ami-1 is held by demo: listed in spec.held"]);
        for (namespace, status) in [("b", failed("ami-1", &digest)), ("a", failed("ami-9", "x"))] {
            assert_eq!(held(namespace, Value::Null, status), Vec::<String>::new());
        }
        assert_eq!(held("b", person, Value::Null), Vec::<String>::new());
        assert_eq!(held("a", Value::Null, failed("ami-2", "x")), Vec::<String>::new(), "it is gone");
    }
}
