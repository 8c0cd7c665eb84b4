//! YAML text → a small tree that knows the line of every key and value.
//!
//! `read` needs lines for its messages, which a deserialised struct has lost. Scalars follow the
//! YAML 1.2 core schema and keep the text they were written as, so that `check` can explain what
//! a reader of YAML 1.1 would have made of them.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value as Json};
use serde_saphyr::granit_parser::{self as granit, Event, ScalarStyle, Span, StrInput, Tag};

mod scalar;

use scalar::{kind_of, resolve};

/// Nesting of lists and maps: the deepest real manifest has 8 levels; recursion stays shallow.
const MAX_DEPTH: usize = 48;
/// Nodes of one file with aliases expanded: far above real manifests, far below a memory bomb.
const MAX_NODES: usize = 100_000;
/// Parse failures reported for one file; behind that many, more say nothing new.
const MAX_BROKEN: usize = 20;

/// A value and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: usize,
    /// A tag outside of the YAML core schema, as written.
    pub tag: Option<String>,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar as written and as understood.
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
    /// What is wrong in a document that can be read nevertheless: duplicate keys, odd merges.
    pub complaints: Vec<(usize, String)>,
}

/// What a file holds: the documents that can be read, and where others cannot.
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

    /// The entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value of a map's entry; null counts as absent.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value).filter(|value| !value.is_null())
    }

    /// The text of a string scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => scalar.json.as_str(),
            _ => None,
        }
    }

    /// As JSON, without the nulls in maps: null means absent in a manifest.
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

    /// Line of a field such as `spec.builder.commands[1].args`, or of the deepest part that is there.
    pub fn line_of(&self, path: &str) -> usize {
        self.find(path).0
    }

    /// Is the field itself there?
    pub fn has(&self, path: &str) -> bool {
        self.find(path).1
    }

    /// The line of the deepest part of a path that is there, and whether that is all of it.
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

/// Reads every document of a text.
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

/// Why a document cannot be read; `fatal` ends the file.
struct Broken {
    line: usize,
    message: String,
    fatal: bool,
}

/// A finished anchor: its value, the nodes it counts for, and its depth.
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
    /// The next document, or none at the end of the text.
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

    /// Goes on behind a broken document; false at the end of the text.
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

    /// The event inside of a list or map, which cannot be the end of the text.
    fn inner(&mut self, line: usize) -> Result<(Event<'a>, Span), Broken> {
        let end = || Broken { line, message: "the text ends in the middle".to_owned(), fatal: true };
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
            self.complaints.push((line, "this alias refers to a value it is part of".to_owned()));
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
                    self.complaints.push((line, format!("`{text}` is not what its tag !!{name} says")));
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
            let (event, span) = self.inner(key.line)?;
            let value = self.node(event, &span, depth + 1)?;
            let Some((name, merge)) = self.key(&key) else { continue };
            if merge {
                merged.extend(self.merge(key.line, value));
            } else if let Some(first) = entries.iter().find(|entry| entry.key == name) {
                let message = format!("duplicate key `{name}`: it is already on line {}", first.line);
                self.complaints.push((key.line, message));
            } else {
                entries.push(Entry { key: name, line: key.line, value });
            }
        }
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// A key's name, and whether it is the merge key.
    fn key(&mut self, key: &Node) -> Option<(String, bool)> {
        match &key.value {
            Value::Scalar(scalar) if !scalar.json.is_null() => {
                Some((scalar.raw.clone(), scalar.plain && scalar.raw == "<<"))
            }
            _ => {
                self.complaints.push((key.line, "a key must be a text".to_owned()));
                None
            }
        }
    }

    /// What `<<` brings in; of several maps the first wins.
    fn merge(&mut self, line: usize, value: Node) -> Vec<Entry> {
        let maps = match value.value {
            Value::List(items) => items,
            _ => vec![value],
        };
        let mut all: Vec<Entry> = Vec::new();
        for map in maps {
            let Value::Map(entries) = map.value else {
                self.complaints.push((line, "`<<` merges maps, and this is none".to_owned()));
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
            let message = format!("more than {MAX_NODES} values in one file, aliases counted each time");
            return Err(Broken { line, message, fatal: true });
        }
        if depth > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(Broken { line, message, fatal: false });
        }
        Ok(())
    }
}

/// A tag that is not of the core schema, as written.
fn foreign(tag: Option<&Tag>) -> Option<String> {
    tag.filter(|tag| tag.core_suffix().is_none() && tag.original() != "!").map(Tag::original)
}

/// How many nodes a value has, and how many levels.
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
