//! Parses YAML into a small tree that knows the line of every key and value.
//!
//! `read` needs lines for its messages, which a deserialized struct does not have. Scalars follow the YAML 1.2 core
//! schema and keep their source, so that `check` can explain how a reader of YAML 1.1 would read them.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value as Json};
use serde_saphyr::granit_parser::{self as granit, Event, ScalarStyle, Span, StrInput, Tag};

mod scalar;

use scalar::kind_of;
pub(super) use scalar::resolve;

/// Maximum nesting of lists and maps. The deepest real manifest has 8 levels, and the recursion stays shallow.
const MAX_DEPTH: usize = 48;
/// Maximum number of nodes of a file with aliases expanded: far more than real manifests have, and far less than
/// exhausts memory.
const MAX_NODES: usize = 100_000;
/// Maximum number of parse errors that are reported per file. Further ones add nothing.
const MAX_BROKEN: usize = 20;

/// A value and its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: usize,
    /// A tag outside the YAML core schema, as written.
    pub tag: Option<String>,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar as written and as resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    pub raw: String,
    /// Written without quotes.
    pub plain: bool,
    /// Null, a boolean, a number or a string.
    pub json: Json,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub root: Node,
    /// Errors in a document that can be read nevertheless: duplicate keys, invalid merges.
    pub complaints: Vec<(usize, String)>,
}

/// The contents of a file: the documents that can be read, and the errors of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    pub documents: Vec<Parsed>,
    pub broken: Vec<(usize, String)>,
}

impl Node {
    fn scalar(line: usize, json: Json) -> Self {
        let raw = String::new();
        Self { line, tag: None, value: Value::Scalar(Scalar { raw, plain: true, json }) }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.json.is_null())
    }

    /// Returns the entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Returns the value of a map's entry. Null counts as absent.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value).filter(|value| !value.is_null())
    }

    /// Returns the value of a string scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => scalar.json.as_str(),
            _ => None,
        }
    }

    /// Returns the value as JSON, without the nulls in maps: null means absent in a manifest.
    pub fn json(&self) -> Json {
        match &self.value {
            Value::Scalar(scalar) => scalar.json.clone(),
            Value::List(items) => items.iter().map(Self::json).collect(),
            Value::Map(entries) => entries
                .iter()
                .filter(|entry| !entry.value.is_null())
                .map(|entry| (entry.key.clone(), entry.value.json()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    /// Returns the line of a field such as `spec.builder.commands[1].args`, or of the deepest part of its path that
    /// exists.
    pub fn line_of(&self, path: &str) -> usize {
        self.find(path).0
    }

    /// Returns whether the field itself exists.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).1
    }

    /// Returns the line of the deepest part of a path that exists, and whether that is the whole path.
    fn find(&self, path: &str) -> (usize, bool) {
        let (mut node, mut line) = (self, self.line);
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let (next, at) = match (&node.value, step.strip_suffix(']')) {
                (Value::List(items), Some(index)) => {
                    match index.parse().ok().and_then(|index: usize| items.get(index)) {
                        Some(item) => (item, item.line),
                        None => return (line, false),
                    }
                }
                _ => match node.entry(step) {
                    Some(entry) => (&entry.value, entry.line),
                    None => return (line, false),
                },
            };
            (node, line) = (next, at);
        }
        (line, true)
    }
}

/// Parses every document of a string.
pub fn parse(text: &str) -> Stream {
    let options = granit::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let parser = granit::Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { parser, anchors: HashMap::new(), nodes: 0, complaints: Vec::new() };
    let mut stream = Stream::default();
    loop {
        match reader.document() {
            Ok(Some(document)) => stream.documents.push(document),
            Ok(None) => return stream,
            Err(Broken { line, message, fatal }) => {
                stream.broken.push((line, message));
                reader.complaints.clear();
                if fatal || stream.broken.len() >= MAX_BROKEN || !reader.skip_document() {
                    return stream;
                }
            }
        }
    }
}

/// Why a document cannot be read. If it is `fatal`, the rest of the file cannot be read either.
struct Broken {
    line: usize,
    message: String,
    fatal: bool,
}

/// A complete anchor: its value, its number of nodes, and its depth.
struct Anchor {
    node: Node,
    size: usize,
    height: usize,
}

struct Reader<'a> {
    parser: granit::Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
    complaints: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    /// Returns the next document, or `None` at the end of the input.
    fn document(&mut self) -> Result<Option<Parsed>, Broken> {
        loop {
            let Some((event, span)) = self.next()? else { return Ok(None) };
            if event.is_node() {
                let root = self.node(event, &span, 0)?;
                let complaints = std::mem::take(&mut self.complaints);
                return Ok(Some(Parsed { root, complaints }));
            }
        }
    }

    /// Skips a broken document. Returns false at the end of the input.
    fn skip_document(&mut self) -> bool {
        self.parser.proceed_next_document().unwrap_or(false)
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Broken> {
        self.parser.next_event().transpose().map_err(|error| Broken {
            line: error.marker().line().max(1),
            message: error.info(),
            fatal: false,
        })
    }

    /// Returns the next event inside a list or map, where the input must not end.
    fn inner(&mut self, line: usize) -> Result<(Event<'a>, Span), Broken> {
        let end = || Broken { line, message: "the input ends unexpectedly".to_owned(), fatal: true };
        self.next()?.ok_or_else(end)
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Broken> {
        let line = span.start.line();
        self.count(1, depth, line)?;
        let anchor = event.anchor_id();
        let node = match event {
            Event::Alias(id) => return self.alias(id, depth, line),
            Event::Scalar(text, style, _, tag) => self.scalar(line, text, style, tag.as_deref()),
            Event::SequenceStart(_, _, tag) => {
                let items = self.items(line, depth)?;
                Node { line, tag: foreign(tag.as_deref()), value: Value::List(items) }
            }
            Event::MappingStart(_, _, tag) => {
                let entries = self.entries(line, depth)?;
                Node { line, tag: foreign(tag.as_deref()), value: Value::Map(entries) }
            }
            _ => Node::scalar(line, Json::Null),
        };
        if let Some(id) = anchor {
            let (size, height) = measure(&node);
            self.anchors.insert(id, Anchor { node: node.clone(), size, height });
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, depth: usize, line: usize) -> Result<Node, Broken> {
        let Some(anchor) = self.anchors.get(&id) else {
            self.complaints.push((line, "this alias refers to a value that contains it".to_owned()));
            return Ok(Node::scalar(line, Json::Null));
        };
        let (size, height) = (anchor.size, anchor.height);
        let node = anchor.node.clone();
        self.count(size, depth + height, line)?;
        Ok(node)
    }

    fn scalar(&mut self, line: usize, text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Node {
        let plain = style == ScalarStyle::Plain;
        let core = tag.and_then(Tag::core_suffix);
        let json = match core {
            Some("str") => Json::String(text.to_string()),
            Some(name) => {
                let json = resolve(&text);
                if kind_of(&json) != name && !(name == "float" && json.is_number()) {
                    self.complaints.push((line, format!("`{text}` does not match its tag !!{name}")));
                }
                json
            }
            None if plain && tag.is_none() => resolve(&text),
            None => Json::String(text.to_string()),
        };
        let value = Value::Scalar(Scalar { raw: text.into_owned(), plain, json });
        Node { line, tag: foreign(tag), value }
    }

    fn items(&mut self, line: usize, depth: usize) -> Result<Vec<Node>, Broken> {
        let mut items = Vec::new();
        loop {
            match self.inner(line)? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, &span, depth + 1)?),
            }
        }
    }

    fn entries(&mut self, line: usize, depth: usize) -> Result<Vec<Entry>, Broken> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.inner(line)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, &span, depth + 1)?;
            let line = key.line;
            let (event, span) = self.inner(line)?;
            let value = self.node(event, &span, depth + 1)?;
            let Some((name, merge)) = self.key(key) else { continue };
            if merge {
                merged.extend(self.merge(line, value));
            } else if let Some(first) = entries.iter().find(|entry| entry.key == name) {
                let message = format!("duplicate key `{name}`: it is already on line {}", first.line);
                self.complaints.push((line, message));
            } else {
                entries.push(Entry { key: name, line, value });
            }
        }
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// Returns the name of a key, and whether it is the merge key.
    fn key(&mut self, key: Node) -> Option<(String, bool)> {
        match key.value {
            Value::Scalar(scalar) if !scalar.json.is_null() => {
                let is_merge = scalar.plain && scalar.raw == "<<";
                Some((scalar.raw, is_merge))
            }
            _ => {
                self.complaints.push((key.line, "a key must be a string".to_owned()));
                None
            }
        }
    }

    /// Returns the entries that `<<` merges. If there are several maps, the first one takes precedence.
    fn merge(&mut self, line: usize, value: Node) -> Vec<Entry> {
        let maps = match value.value {
            Value::List(items) => items,
            _ => vec![value],
        };
        let mut all: Vec<Entry> = Vec::new();
        for map in maps {
            let Value::Map(entries) = map.value else {
                self.complaints.push((line, "`<<` merges maps, but this is not a map".to_owned()));
                continue;
            };
            for entry in entries {
                if !all.iter().any(|own| own.key == entry.key) {
                    all.push(entry);
                }
            }
        }
        all
    }

    fn count(&mut self, nodes: usize, depth: usize, line: usize) -> Result<(), Broken> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let message =
                format!("more than {MAX_NODES} values in one file, with every use of an alias counted");
            return Err(Broken { line, message, fatal: true });
        }
        if depth > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(Broken { line, message, fatal: false });
        }
        Ok(())
    }
}

/// Returns a tag that is not part of the core schema, as written.
fn foreign(tag: Option<&Tag>) -> Option<String> {
    tag.filter(|tag| tag.core_suffix().is_none() && tag.original() != "!").map(Tag::original)
}

/// Returns the number of nodes of a value, and the number of its levels.
fn measure(node: &Node) -> (usize, usize) {
    let children: Vec<&Node> = match &node.value {
        Value::Scalar(_) => return (1, 0),
        Value::List(items) => items.iter().collect(),
        Value::Map(entries) => entries.iter().map(|entry| &entry.value).collect(),
    };
    let (size, height) =
        children.into_iter().map(measure).fold((0, 0), |(size, height), (s, h)| (size + s, height.max(h)));
    (size + 1, height + 1)
}

#[cfg(test)]
mod tests;
