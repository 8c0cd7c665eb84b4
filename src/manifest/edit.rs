//! Edits the manifest of one object and changes nothing else in its file: comments, order and layout stay. `opsy rollback`
//! uses it. An edit that would change anything else is refused, and the person edits the file instead. Pure.

use serde_json::{Value as Json, json};

use super::yaml::{Entry, Node, Value, parse};
use crate::api::{GROUP, ImageId, ObjectKey};

/// New fields follow this one, which every refresher has.
const FIRST_FIELD: &str = "clusterName";

/// What a rollback changes in the manifest of a refresher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The new `ami`.
    pub ami: ImageId,
    /// An image to add to `held`, with the reason.
    pub held: Option<(ImageId, String)>,
}

/// The text of a file, line by line.
struct Lines {
    lines: Vec<String>,
    newline: &'static str,
}

/// Returns the text with the change. `None` if the file does not declare the object. `namespace` is the namespace of
/// manifests without one.
///
/// # Errors
/// Why the manifest cannot be edited.
pub fn pin(text: &str, object: &ObjectKey, namespace: &str, pin: &Pin) -> Result<Option<String>, String> {
    let find = |text: &str| find(text, object, namespace);
    let Some(before) = find(text) else { return Ok(None) };
    let mut expected = before.json();
    if holds(&expected["spec"]["held"], &pin.ami) {
        return Err(format!("spec.held contains {}", pin.ami));
    }
    let mut edited = Lines::of(text).with_scalar(spec(&before)?, "ami", pin.ami.as_str())?;
    expected["spec"]["ami"] = json!(pin.ami.as_str());
    if let Some((image, reason)) = &pin.held
        && !holds(&expected["spec"]["held"], image)
    {
        let after = find(&edited).ok_or_else(changed_more)?;
        edited = Lines::of(&edited).with_held(spec(&after)?, image, reason)?;
        let item = json!({ "ami": image.as_str(), "reason": reason });
        match expected["spec"]["held"].as_array_mut() {
            Some(items) => items.insert(0, item),
            None => expected["spec"]["held"] = json!([item]),
        }
    }
    let others = |text: &str| -> Vec<Json> {
        let documents = parse(text).documents.into_iter().map(|document| document.root);
        documents
            .filter(|root| !declares(root, object, namespace))
            .map(|root| without(&root, object, namespace))
            .collect()
    };
    let is_right =
        find(&edited).is_some_and(|after| after.json() == expected) && others(&edited) == others(text);
    if is_right { Ok(Some(edited)) } else { Err(changed_more()) }
}

fn changed_more() -> String {
    "its layout does not allow changing only these fields".to_owned()
}

/// The JSON of another document; of a list, without the object itself.
fn without(root: &Node, object: &ObjectKey, namespace: &str) -> Json {
    match root.entry("items").map(|items| &items.value.value) {
        Some(Value::List(items)) => {
            items.iter().filter(|item| !declares(item, object, namespace)).map(Node::json).collect()
        }
        _ => root.json(),
    }
}

fn find(text: &str, object: &ObjectKey, namespace: &str) -> Option<Node> {
    parse(text).documents.into_iter().find_map(|document| {
        if declares(&document.root, object, namespace) {
            return Some(document.root);
        }
        match document.root.get("items").map(|items| &items.value) {
            Some(Value::List(items)) => items.iter().find(|item| declares(item, object, namespace)).cloned(),
            _ => None,
        }
    })
}

fn declares(root: &Node, object: &ObjectKey, namespace: &str) -> bool {
    let text =
        |node: Option<&Node>, field: &str| node.and_then(|node| node.get(field)?.text().map(str::to_owned));
    let version = text(Some(root), "apiVersion").unwrap_or_default();
    let metadata = root.get("metadata");
    version.starts_with(GROUP)
        && text(Some(root), "kind") == Some(object.kind.to_string())
        && text(metadata, "name").as_ref() == Some(&object.key.name)
        && text(metadata, "namespace").unwrap_or_else(|| namespace.to_owned()) == object.key.namespace
}

fn spec(root: &Node) -> Result<&Entry, String> {
    root.entry("spec").ok_or_else(|| "it has no spec".to_owned())
}

fn entries(of: &Entry) -> &[Entry] {
    match &of.value.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

fn holds(held: &Json, image: &ImageId) -> bool {
    held.as_array().into_iter().flatten().any(|item| item["ami"] == image.as_str())
}

impl Lines {
    fn of(text: &str) -> Self {
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Self { lines: text.split_inclusive('\n').map(str::to_owned).collect(), newline }
    }

    /// Sets a scalar field of a mapping in block style.
    fn with_scalar(mut self, map: &Entry, key: &str, value: &str) -> Result<String, String> {
        let Some(entry) = entries(map).iter().find(|entry| entry.key == key) else {
            let (place, indent) = self.place_of_new_field(map)?;
            self.insert(place, &[format!("{indent}{key}: {value}")]);
            return Ok(self.lines.concat());
        };
        let line = self.line(entry.line)?;
        let (start, end) =
            scalar_at(line, key).filter(|_| entry.value.line == entry.line).ok_or_else(flow_style)?;
        let replaced = format!("{}{value}{}", &line[..start], &line[end..]);
        self.lines[entry.line - 1] = replaced;
        Ok(self.lines.concat())
    }

    /// Adds an item to `held`.
    fn with_held(mut self, spec: &Entry, image: &ImageId, reason: &str) -> Result<String, String> {
        let reason = serde_json::to_string(reason).map_err(|error| error.to_string())?;
        let item = |indent: &str| [format!("{indent}- ami: {image}"), format!("{indent}  reason: {reason}")];
        let held = entries(spec).iter().find(|entry| entry.key == "held");
        match held.map(|held| &held.value.value) {
            None => {
                let (place, indent) = self.place_of_new_field(spec)?;
                let [ami, reason] = item(&format!("{indent}  "));
                self.insert(place, &[format!("{indent}held:"), ami, reason]);
            }
            Some(Value::List(items)) => {
                let first = items.first().ok_or_else(flow_style)?.line;
                let line = self.line(first)?;
                let indent = &line[..line.len() - line.trim_start().len()];
                if !line.trim_start().starts_with("- ") {
                    return Err(flow_style());
                }
                let item = item(indent);
                self.insert(first - 1, &item);
            }
            Some(_) => return Err("spec.held is not a list".to_owned()),
        }
        Ok(self.lines.concat())
    }

    /// The number of lines before a new field, and its indentation.
    fn place_of_new_field(&self, map: &Entry) -> Result<(usize, String), String> {
        let first = entries(map).first().ok_or_else(flow_style)?;
        let line = self.line(first.line)?;
        let is_block = first.line > map.line && line.trim_start().starts_with(first.key.as_str());
        let indent = line[..line.len() - line.trim_start().len()].to_owned();
        let after = entries(map).iter().find(|entry| {
            entry.key == FIRST_FIELD && entry.value.line == entry.line && entry.value.text().is_some()
        });
        let place = after.map_or(map.line, |entry| entry.line);
        if is_block { Ok((place, indent)) } else { Err(flow_style()) }
    }

    fn line(&self, number: usize) -> Result<&str, String> {
        number
            .checked_sub(1)
            .and_then(|index| self.lines.get(index))
            .map(String::as_str)
            .ok_or_else(flow_style)
    }

    fn insert(&mut self, place: usize, lines: &[String]) {
        if let Some(last) = place.checked_sub(1).and_then(|index| self.lines.get_mut(index))
            && !last.ends_with('\n')
        {
            last.push_str(self.newline);
        }
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}{}", self.newline)).collect();
        self.lines.splice(place..place, lines);
    }
}

fn flow_style() -> String {
    "it is not written in block style".to_owned()
}

/// Start and end of the value in a line `key: value # comment`.
fn scalar_at(line: &str, key: &str) -> Option<(usize, usize)> {
    let indent = line.len() - line.trim_start().len();
    let rest = line[indent..].strip_prefix(key)?.strip_prefix(':')?;
    let value = rest.trim_start();
    let start = line.len() - value.len();
    let end = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].find(quote)? + 2,
        '|' | '>' | '&' | '*' | '!' | '{' | '[' | '#' => return None,
        _ => value.find(" #").map_or(value.trim_end().len(), |comment| value[..comment].trim_end().len()),
    };
    Some((start, start + end))
}

#[cfg(test)]
mod tests;
