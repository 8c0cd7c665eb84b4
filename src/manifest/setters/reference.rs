//! What a setter refers to: `<namespace>/<builder>:<region>:<architecture>[:<field>]`, and its value in the status of the
//! builder. Pure.

use serde_json::{Map, Value};

use super::KEY;
use crate::api::builder::LaneImage;
use crate::api::{Key, PackerBuilderStatus};

/// A field of the active image of a region and architecture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub builder: Key,
    pub region: String,
    pub architecture: String,
    pub field: Field,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Id,
    Name,
    /// The ID of the build that made the image.
    Build,
}

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Value(String),
    /// Not known yet: the value stays as it is.
    Pending,
    /// The image with this value must not be named, and there is no other one: a file that has the value is reported.
    Withheld(String),
    /// There is no such image, for this reason.
    Nothing(String),
}

impl Reference {
    /// Parses a reference. `namespace` is that of a builder without one.
    ///
    /// # Errors
    /// Returns what is wrong, and the form.
    pub fn parse(text: &str, namespace: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a reference to an image: write <namespace>/<builder>:<region>:<architecture>; \
                 append :name or :build for that field instead of the ID"
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (builder, region, architecture, field) = match parts.as_slice() {
            [builder, region, architecture] => (builder, region, architecture, "id"),
            [builder, region, architecture, field] => (builder, region, architecture, *field),
            _ => return Err(wrong()),
        };
        let field = match field {
            "id" => Field::Id,
            "name" => Field::Name,
            "build" => Field::Build,
            _ => return Err(wrong()),
        };
        let (namespace, name) = builder.split_once('/').unwrap_or((namespace, builder));
        let is_word =
            |word: &str| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '/');
        if ![namespace, name, region, architecture].into_iter().all(is_word) {
            return Err(wrong());
        }
        let builder = Key { namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(Self { builder, region: (*region).to_owned(), architecture: (*architecture).to_owned(), field })
    }

    /// Parses a marker, which is JSON.
    pub(super) fn of_marker(marker: &str, namespace: &str) -> Result<Self, String> {
        let map: Result<Map<String, Value>, _> = serde_json::from_str(marker);
        let value = match map.as_ref().map(|map| (map.len(), map.get(KEY))) {
            Ok((1, Some(Value::String(value)))) => value,
            _ => {
                let form = format!("{{\"{KEY}\": \"<namespace>/<builder>:<region>:<architecture>\"}}");
                return Err(format!("the marker is not valid: write {form} and nothing else in the comment"));
            }
        };
        Self::parse(value, namespace)
    }

    /// Whether it refers to this image's region and architecture.
    pub fn is_of_lane(&self, image: &LaneImage) -> bool {
        image.region == self.region && image.architecture == self.architecture
    }

    /// Returns the value in the status of the builder; `None` if no manifest declares the builder.
    pub fn find(&self, status: Option<&PackerBuilderStatus>) -> Found {
        let Some(status) = status else {
            return Found::Nothing(format!(
                "PackerBuilder {} is not declared in the repository",
                self.builder
            ));
        };
        let images = status.images.as_deref().unwrap_or_default();
        if images.is_empty() {
            return Found::Pending;
        }
        let Some(image) = images.iter().find(|image| self.is_of_lane(image)) else {
            return Found::Nothing(self.no_image(images));
        };
        let value = match self.field {
            // Nothing can be launched from it.
            _ if image.gone == Some(true) => None,
            Field::Id => Some(image.id.clone()),
            Field::Name => image.name.clone(),
            Field::Build => {
                let mut runs = status.history.iter().flatten();
                let made = |made: &Vec<String>| made.contains(&image.id);
                runs.find(|run| run.images.as_ref().is_some_and(made)).map(|run| run.id.clone())
            }
        };
        value.map_or(Found::Pending, Found::Value)
    }

    fn no_image(&self, images: &[LaneImage]) -> String {
        let lanes: Vec<String> =
            images.iter().map(|image| format!("{}:{}", image.region, image.architecture)).collect();
        format!(
            "PackerBuilder {} has no image for {}:{}; it has images for {}",
            self.builder,
            self.region,
            self.architecture,
            lanes.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> PackerBuilderStatus {
        serde_json::from_value(json!({
            "images": [
                {"region": "us-east-1", "architecture": "x86_64", "id": "ami-1", "name": "node 1"},
                {"region": "us-east-1", "architecture": "arm64", "id": "ami-2", "gone": true},
            ],
            "history": [
                {"id": "b2", "result": "Failed"},
                {"id": "b1", "result": "Succeeded", "images": ["ami-2", "ami-1"]},
            ],
        }))
        .expect("a status")
    }

    #[test]
    fn every_field_of_a_lane_is_found() {
        let find = |text: &str, status: Option<&PackerBuilderStatus>| {
            Reference::parse(text, "default").expect("a reference").find(status)
        };
        let value = |text: &str| Found::Value(text.to_owned());
        assert_eq!(find("a:us-east-1:x86_64", Some(&status())), value("ami-1"));
        assert_eq!(find("team/a:us-east-1:x86_64:id", Some(&status())), value("ami-1"));
        assert_eq!(find("a:us-east-1:x86_64:name", Some(&status())), value("node 1"));
        assert_eq!(find("a:us-east-1:x86_64:build", Some(&status())), value("b1"));
        assert_eq!(find("a:us-east-1:arm64", Some(&status())), Found::Pending, "it is gone");
        assert_eq!(find("a:us-east-1:x86_64", Some(&PackerBuilderStatus::default())), Found::Pending);
        let Found::Nothing(why) = find("a:eu-west-1:x86_64", Some(&status())) else { panic!("no such lane") };
        let due = "PackerBuilder default/a has no image for eu-west-1:x86_64; it has images for us-east-1:x86_64, \
                   us-east-1:arm64";
        assert_eq!(why, due);
        let Found::Nothing(why) = find("b/a:us-east-1:x86_64", None) else { panic!("no such builder") };
        assert_eq!(why, "PackerBuilder b/a is not declared in the repository");
    }

    #[test]
    fn anything_else_is_refused_with_the_form() {
        for wrong in
            ["", "a", "a:b", "a:b:c:d", "a:b:c:id:e", "a/b/c:us-east-1:arm64", ":b:c", "a::c", "a:b:c d"]
        {
            let why = Reference::parse(wrong, "default").expect_err(wrong);
            assert!(why.contains("<namespace>/<builder>:<region>:<architecture>"), "{wrong}: {why}");
        }
        for wrong in
            ["{\"$opsy\": 1}", "{\"$opsy\": \"a:b:c\", \"x\": 1}", "{\"$opsy\"", "{\"$opsy\": \"a:b:c\"} x"]
        {
            let why = Reference::of_marker(wrong, "default").expect_err(wrong);
            assert!(why.contains("the marker is not valid"), "{wrong}: {why}");
        }
    }
}
