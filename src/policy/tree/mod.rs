//! Parses YAML or JSON text into a tree of nodes, each with its position in the text.
//!
//! The tree is built from the events of the YAML parser, not through serde. A policy of 100,000
//! routes loads in a third of the time, errors have the position of keys as well as of values, and
//! a plain `no` is still the text `no` in an error about the type of a field. Plain JSON is read
//! without that parser, see [`json`].

mod json;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::pem_text;
use super::report::{Path, Position, Report};
use crate::text::quoted;

/// The deepest nesting of lists and mappings, with aliases expanded.
const MAX_DEPTH: usize = 32;

/// The largest number of values in a document, with aliases expanded.
const MAX_NODES: usize = 4_000_000;

/// The largest number of keys of a mapping that merges others with `<<`.
const MAX_MERGED: usize = 1000;

/// The largest mapping whose keys are compared pairwise to find duplicates.
const SMALL_MAP: usize = 16;

/// The tags of the YAML core schema that a scalar may have.
const SCALAR_TAGS: &[&str] = &["str", "int", "float", "bool", "null"];

/// A value and its position.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub position: Position,
    pub value: Value<'a>,
}

/// The value of a node. Cloning is cheap, because an alias shares the lists and mappings of its
/// anchor.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// Text. `plain` text is neither quoted nor a block, so it may be a number, a boolean or null.
    Scalar {
        text: Text<'a>,
        plain: bool,
    },
    List(Rc<[Node<'a>]>),
    Map(Rc<[(Key<'a>, Node<'a>)]>),
}

/// A key of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Key<'a> {
    pub position: Position,
    pub text: Text<'a>,
}

/// Text that is borrowed from the document, or owned if it had escapes or line folding.
#[derive(Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Owned(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<'a> From<Cow<'a, str>> for Text<'a> {
    fn from(text: Cow<'a, str>) -> Text<'a> {
        match text {
            Cow::Borrowed(text) => Text::Borrowed(text),
            Cow::Owned(text) => Text::Owned(text.into()),
        }
    }
}

impl Node<'_> {
    /// Whether it is null, which means the same as an absent field almost everywhere.
    pub fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain: true } => {
                matches!(&**text, "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// Whether it is an empty list or mapping.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Scalar { .. } => false,
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// The text of a scalar, whatever its type.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The boolean that a plain scalar is in YAML 1.1, the version that Kong and decK read.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.value {
            Value::Scalar { text, plain: true } => match &**text {
                "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
                "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
                    Some(false)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The number that a plain scalar is.
    pub fn as_number(&self) -> Option<f64> {
        match &self.value {
            // Rust also parses words such as "inf" and "nan" as numbers.
            Value::Scalar { text, plain: true }
                if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) =>
            {
                text.parse().ok().filter(|number: &f64| number.is_finite())
            }
            _ => None,
        }
    }

    /// Describes the node, for an error about its type.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar { .. } if self.is_null() => "null".to_owned(),
            Value::Scalar { text, .. } if self.as_bool().is_some() => {
                format!("the boolean {}", &**text)
            }
            Value::Scalar { text, .. } if self.as_number().is_some() => {
                format!("the number {}", quoted(text.as_bytes()))
            }
            Value::Scalar { text, .. } => format!("'{}'", quoted(text.as_bytes())),
        }
    }
}

/// Reads one document. Errors are added to `report`, and what could be read is returned all the
/// same. `None` when the text is not YAML or exceeds a limit.
/// `base` is added to the numbers of lines.
pub(super) fn read<'a>(text: &'a str, base: u32, report: &mut Report) -> Option<Node<'a>> {
    json::read(text, base).or_else(|| read_yaml(text, base, report))
}

fn read_yaml<'a>(text: &'a str, base: u32, report: &mut Report) -> Option<Node<'a>> {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder::new(report);
    builder.base = base;
    for event in Parser::new_from_str_with_options(text, options) {
        let read = event
            .map_err(|error| {
                let (position, message) = syntax_error(&error, text);
                (position.after(base), message)
            })
            .and_then(|(event, span)| builder.event(event, span));
        if let Err((position, message)) = read {
            builder.report.error(position, &Path::ROOT, message);
            return None;
        }
    }
    match builder.root {
        Some(node) if !node.is_null() => Some(node),
        _ => {
            let empty = "the document is empty, expected a mapping with '_format_version'";
            let line = base.saturating_add(1);
            report.error(Position { line, column: 1 }, &Path::ROOT, empty);
            None
        }
    }
}

/// An error after which nothing more can be read.
type Fatal = (Position, String);

fn syntax_error(error: &ScanError, text: &str) -> Fatal {
    if let Some(line) = pem_text::badly_indented_line(text, error.marker().line()) {
        let message =
            "a line of the PEM text is not indented as its first line, or not deeper than \
                       its key, expected 'cert: |' and below it all lines indented alike"
                .to_owned();
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        return (Position { line, column: 1 }, message);
    }
    let message = match error.kind() {
        // The parser reads ahead, so it may reach its own limit, which is higher, before ours is
        // checked.
        ErrorKind::RecursionLimitExceeded => format!("nested deeper than {MAX_DEPTH} levels"),
        // The messages of the parser are fixed, except for a character, which they escape.
        kind => format!("not valid YAML: {kind}{}", likely_cause(kind)),
    };
    (Position::of(error.marker()), message)
}

/// What most often leads to an error of the parser, whose place is where it could not go on.
fn likely_cause(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::MappingValueNotAllowed => {
            "; perhaps this line is indented deeper than the one above, the '-' of a list has no \
             blank after it, or a text with ': ' has no quotes"
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::ExpectedBlockSequenceEntry => {
            "; perhaps this line is indented otherwise than the lines above"
        }
        ErrorKind::SimpleKeyExpected => "; perhaps the ':' of a name has no blank after it",
        // Its place is the end of the text, on the line before.
        ErrorKind::TabInPlainScalar => {
            "; perhaps the line below begins with it, expected blanks, as tabs do not indent in YAML"
        }
        ErrorKind::TabInBlockIndentation | ErrorKind::TabNotAllowed => {
            "; expected blanks, as tabs do not indent in YAML"
        }
        _ => "",
    }
}

/// A list or mapping whose end has not been read.
struct Frame<'a> {
    position: Position,
    anchor: usize,
    content: OpenContent<'a>,
    /// The number of values inside, with aliases expanded.
    size: usize,
    /// The number of levels of lists and mappings inside.
    height: usize,
}

/// The content of an open list or mapping. It starts at the index `start` of [`Builder::items`] or
/// [`Builder::entries`], and ends where that of the next open one inside it starts.
enum OpenContent<'a> {
    List {
        start: usize,
    },
    Map {
        start: usize,
        key: Option<Key<'a>>,
        merges: bool,
    },
}

/// A complete node with its size and height, as in [`Frame`].
#[derive(Clone)]
struct Subtree<'a> {
    node: Node<'a>,
    size: usize,
    height: usize,
}

struct Builder<'a, 'r> {
    report: &'r mut Report,
    frames: Vec<Frame<'a>>,
    /// The items of all open lists, one list after the other. Each list is allocated once, when it
    /// is complete.
    items: Vec<Node<'a>>,
    /// The entries of all open mappings, in the same way.
    entries: Vec<(Key<'a>, Node<'a>)>,
    anchors: HashMap<usize, Subtree<'a>>,
    root: Option<Node<'a>>,
    /// What is added to the numbers of lines.
    base: u32,
    nodes: usize,
    documents: usize,
}

impl<'a, 'r> Builder<'a, 'r> {
    fn new(report: &'r mut Report) -> Builder<'a, 'r> {
        Builder {
            report,
            frames: Vec::new(),
            items: Vec::new(),
            entries: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            base: 0,
            nodes: 0,
            documents: 0,
        }
    }

    fn event(&mut self, event: Event<'a>, span: Span) -> Result<(), Fatal> {
        let position = Position::of(&span.start).after(self.base);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second YAML document starts here, expected one".to_owned();
                    return Err((position, message));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = self.tag(position, tag.as_deref(), SCALAR_TAGS);
                let plain = style == ScalarStyle::Plain && tag != Some("str");
                let value = Value::Scalar {
                    text: text.into(),
                    plain,
                };
                self.nodes += 1;
                self.finish(
                    anchor,
                    Subtree {
                        node: Node { position, value },
                        size: 1,
                        height: 0,
                    },
                )
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(position, tag.as_deref(), &["seq"]);
                let start = self.items.len();
                self.open(position, anchor, OpenContent::List { start })
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(position, tag.as_deref(), &["map"]);
                let content = OpenContent::Map {
                    start: self.entries.len(),
                    key: None,
                    merges: false,
                };
                self.open(position, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor).cloned() else {
                    return Err((position, "an alias is inside its own anchor".to_owned()));
                };
                self.nodes = self.nodes.saturating_add(target.size);
                self.finish(
                    0,
                    Subtree {
                        node: Node {
                            position,
                            ..target.node
                        },
                        ..target
                    },
                )
            }
            _ => Ok(()),
        }
    }

    /// Returns the tag of a node without its prefix. A tag that is not one of `allowed`, from the
    /// core schema, is an error.
    fn tag(
        &mut self,
        position: Position,
        tag: Option<&Tag>,
        allowed: &[&'static str],
    ) -> Option<&'static str> {
        let tag = tag?;
        let core = allowed
            .iter()
            .find(|suffix| tag.is_yaml_core_schema_tag(suffix));
        if core.is_none() {
            let tag = quoted(tag.to_string().as_bytes());
            let message = format!("the YAML tag '{tag}' is not supported here, expected none");
            self.error_at_current_path(position, &message);
        }
        core.copied()
    }

    /// Adds an error with the path of the open lists and mappings.
    fn error_at_current_path(&mut self, position: Position, message: &str) {
        let mut path = String::new();
        let starts = self.frames.iter().filter_map(|frame| match frame.content {
            OpenContent::List { start } => Some(start),
            OpenContent::Map { .. } => None,
        });
        let mut ends = starts.skip(1).chain([self.items.len()]);
        for frame in &self.frames {
            path = match &frame.content {
                OpenContent::List { start } => {
                    let end = ends.next().unwrap_or(*start);
                    Path::Text(&path).item(end - start).to_string()
                }
                OpenContent::Map { key: Some(key), .. } => {
                    Path::Text(&path).field(&key.text).to_string()
                }
                OpenContent::Map { key: None, .. } => path,
            };
        }
        self.report.error(position, &Path::Text(&path), message);
    }

    fn open(
        &mut self,
        position: Position,
        anchor: usize,
        content: OpenContent<'a>,
    ) -> Result<(), Fatal> {
        if self.frames.len() >= MAX_DEPTH {
            return Err((position, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.nodes += 1;
        self.frames.push(Frame {
            position,
            anchor,
            content,
            size: 1,
            height: 1,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fatal> {
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        let value = match frame.content {
            OpenContent::List { start } => Value::List(self.items.drain(start..).collect()),
            OpenContent::Map { start, merges, .. } => {
                self.refuse_duplicates(start);
                if merges {
                    let mut entries = self.entries.split_off(start);
                    self.merge(&mut entries)?;
                    Value::Map(entries.into())
                } else {
                    Value::Map(self.entries.drain(start..).collect())
                }
            }
        };
        let node = Node {
            position: frame.position,
            value,
        };
        self.finish(
            frame.anchor,
            Subtree {
                node,
                size: frame.size,
                height: frame.height,
            },
        )
    }

    /// Adds a complete node to the list or mapping that contains it.
    fn finish(&mut self, anchor: usize, finished: Subtree<'a>) -> Result<(), Fatal> {
        let position = finished.node.position;
        if self.nodes > MAX_NODES {
            return Err((
                position,
                format!("more than {MAX_NODES} values, aliases expanded"),
            ));
        }
        if self.frames.len() + finished.height > MAX_DEPTH {
            return Err((
                position,
                format!("nested deeper than {MAX_DEPTH} levels, aliases expanded"),
            ));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, finished.clone());
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(finished.node);
            return Ok(());
        };
        match &mut frame.content {
            OpenContent::List { .. } => self.items.push(finished.node),
            OpenContent::Map { key, merges, .. } => match (key.take(), finished.node.value) {
                (Some(found), value) => {
                    self.entries.push((found, Node { position, value }));
                }
                (None, Value::Scalar { text, plain }) => {
                    *merges |= plain && &*text == "<<";
                    *key = Some(Key { position, text });
                }
                (None, _) => return Err((position, "a key must be text".to_owned())),
            },
        }
        frame.size = frame.size.saturating_add(finished.size);
        frame.height = frame.height.max(finished.height + 1);
        Ok(())
    }

    /// Reports the duplicate keys of the entries from `start` on, and keeps the first entry of each
    /// key.
    fn refuse_duplicates(&mut self, start: usize) {
        let entries = self.entries.get(start..).unwrap_or_default();
        let repeated = repeated_keys(entries);
        if repeated.is_empty() {
            return;
        }
        let keys: Vec<_> = repeated
            .iter()
            .filter_map(|&i| entries.get(i))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let message = format!("the key '{}' is given twice", quoted(key.text.as_bytes()));
            self.error_at_current_path(key.position, &message);
        }
        let mut entries = self.entries.split_off(start);
        let mut i = 0;
        entries.retain(|_| {
            i += 1;
            repeated.binary_search(&(i - 1)).is_err()
        });
        self.entries.append(&mut entries);
    }

    /// Replaces `<<` by those entries of its mapping, or list of mappings, whose keys are not in
    /// the mapping itself (YAML 1.1 merge).
    fn merge(&mut self, entries: &mut Vec<(Key<'a>, Node<'a>)>) -> Result<(), Fatal> {
        let Some(i) = entries.iter().position(|(key, _)| &*key.text == "<<") else {
            return Ok(());
        };
        let (key, source) = entries.remove(i);
        let single = [source];
        let sources = match &single {
            [Node {
                value: Value::List(items),
                ..
            }] => &items[..],
            other => other,
        };
        for source in sources {
            let Value::Map(merged) = &source.value else {
                return Err((
                    key.position,
                    "'<<' takes a mapping or a list of mappings".to_owned(),
                ));
            };
            for entry in merged.iter() {
                if !entries.iter().any(|(key, _)| *key.text == *entry.0.text) {
                    entries.push(entry.clone());
                }
            }
            if entries.len() > MAX_MERGED {
                return Err((
                    key.position,
                    format!("'<<' makes more than {MAX_MERGED} keys"),
                ));
            }
        }
        Ok(())
    }
}

/// The indexes of the entries whose key is that of an earlier one.
fn repeated_keys(entries: &[(Key<'_>, Node<'_>)]) -> Vec<usize> {
    let mut repeated = Vec::new();
    let mut seen = HashSet::new();
    for (i, (key, _)) in entries.iter().enumerate() {
        let again = if entries.len() <= SMALL_MAP {
            let mut before = entries.iter().take(i);
            before.any(|(other, _)| *other.text == *key.text)
        } else {
            !seen.insert(&*key.text)
        };
        if again {
            repeated.push(i);
        }
    }
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the tree in a compact notation, or the errors.
    fn read_text(text: &str) -> Result<String, Vec<String>> {
        let mut report = Report::new("p");
        let node = read(text, 0, &mut report);
        match report.finish() {
            Ok(_) => Ok(node.map_or(String::new(), |node| show(&node))),
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
        }
    }

    fn show(node: &Node<'_>) -> String {
        match &node.value {
            Value::Scalar { text, plain: true } => text.to_string(),
            Value::Scalar { text, plain: false } => format!("{text:?}"),
            Value::List(items) => {
                format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            Value::Map(entries) => {
                let entry =
                    |(key, value): &(Key<'_>, Node<'_>)| format!("{}:{}", &*key.text, show(value));
                format!(
                    "{{{}}}",
                    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
                )
            }
        }
    }

    /// Returns the errors. The tree is not shown, because one that should have been refused may be
    /// infinite.
    fn refusal(text: &str) -> String {
        let mut report = Report::new("p");
        read(text, 0, &mut report);
        let errors = report.finish().unwrap_err();
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    fn scalar(text: &str, plain: bool) -> Node<'_> {
        let value = Value::Scalar {
            text: Text::Borrowed(text),
            plain,
        };
        Node {
            position: Position::default(),
            value,
        }
    }

    #[test]
    fn read_yaml_and_json_give_the_same_tree() {
        let tree = r#"{"a":["x" 1 true null] "b":"l1\nl2\n"}"#.replace("\"a\"", "a");
        let tree = tree.replace("\"b\"", "b");
        for text in [
            "a: ['x', 1, true, null]\nb: |\n  l1\n  l2\n",
            "\u{feff}# a comment\r\na:\r\n- \"x\"\r\n- 1\r\n- true\r\n- null\r\nb: \"l1\\nl2\\n\"\r\n",
            "{\n\t\"a\": [\n\t\t\"\\u0078\",\n\t\t1, true, null],\n\t\"b\": \"l1\\nl2\\n\"\n}\n",
        ] {
            assert_eq!(read_text(text), Ok(tree.clone()), "{text}");
        }
    }

    #[test]
    fn read_json_string_longer_than_a_key_may_be_is_read() {
        let long = "x".repeat(5000);
        let text = format!("{{\"a\": \"{long}\", \"b\": [\"{long}\"]}}");
        assert_eq!(
            read_text(&text),
            Ok(format!("{{a:\"{long}\" b:[\"{long}\"]}}"))
        );
    }

    #[test]
    fn read_returns_positions_of_keys_and_values() {
        let mut report = Report::new("p");
        let root = read("\u{feff}a: é\r\nb:\n  - {c: d}\n", 0, &mut report).unwrap();
        let Value::Map(entries) = &root.value else {
            panic!("{root:?}");
        };
        let position = |position: Position| (position.line, position.column);
        let (a, b) = (&entries[0], &entries[1]);
        assert_eq!(
            (position(a.0.position), position(a.1.position)),
            ((1, 1), (1, 4))
        );
        assert_eq!(position(b.0.position), (2, 1));
        let Value::List(items) = &b.1.value else {
            panic!("{b:?}");
        };
        assert_eq!(position(items[0].position), (3, 5));
    }

    #[test]
    fn read_alias_is_replaced_by_its_anchor() {
        assert_eq!(
            read_text("a: &x [1, &y z]\nb: *x\nc: {d: *y}\n"),
            Ok("{a:[1 z] b:[1 z] c:{d:z}}".into())
        );
        assert_eq!(
            refusal("a: *x\n"),
            "p:1:4: not valid YAML: while parsing node, found unknown anchor"
        );
        assert_eq!(
            refusal("a: &x [*x]\n"),
            "p:1:8: an alias is inside its own anchor"
        );
    }

    #[test]
    fn read_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..=20 {
            let j = i - 1;
            text += &format!("a{i}: &a{i} [*a{j}, *a{j}, *a{j}, *a{j}, *a{j}, *a{j}, *a{j}]\n");
        }
        assert_eq!(
            refusal(&text),
            "p:8:15: more than 4000000 values, aliases expanded"
        );
    }

    #[test]
    fn read_nesting_over_the_limit_is_refused() {
        let deep = |n: usize| format!("{}x{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(read_text(&deep(32)), Ok(deep(32)));
        assert_eq!(refusal(&deep(33)), "p:1:33: nested deeper than 32 levels");
        assert_eq!(
            refusal(&deep(100_000)),
            "p:1:256: nested deeper than 32 levels"
        );

        // Aliases of aliases nest deeply in a text that does not.
        let mut text = "- &a0 [x]\n".to_owned();
        for i in 1..100_000 {
            text += &format!("- &a{i} [*a{}]\n", i - 1);
        }
        assert_eq!(
            refusal(&text),
            "p:32:9: nested deeper than 32 levels, aliases expanded"
        );
    }

    #[test]
    fn read_duplicate_keys_are_all_reported() {
        assert_eq!(
            refusal("a: 1\nb:\n- c: 1\n  d: 2\n  c: 3\na: 4\n"),
            "p:5:3: b[0]: the key 'c' is given twice\np:6:1: the key 'a' is given twice"
        );
        let keys: String = (0..40).map(|i| format!("k{}: x\n", i % 38)).collect();
        assert_eq!(
            refusal(&keys),
            "p:39:1: the key 'k0' is given twice\np:40:1: the key 'k1' is given twice"
        );
    }

    #[test]
    fn read_merge_key_adds_the_keys_that_are_not_given() {
        assert_eq!(
            read_text("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 0}\n"),
            Ok("{a:{x:1 y:2} b:{y:3 z:4} c:{x:0 y:2 z:4}}".into())
        );
        assert_eq!(read_text("{\"<<\": 1}"), Ok("{<<:1}".into()));
        assert_eq!(
            refusal("<<: 1\n"),
            "p:1:1: '<<' takes a mapping or a list of mappings"
        );
        let wide: Vec<_> = (0..1001).map(|i| format!("k{i}: 0")).collect();
        assert_eq!(
            refusal(&format!("a: &a {{{}}}\nb: {{<<: *a}}\n", wide.join(", "))),
            "p:2:5: '<<' makes more than 1000 keys"
        );
    }

    #[test]
    fn read_tags_of_the_core_schema_only() {
        assert_eq!(
            read_text("a: !!str 3.0\nb: !!map {}\nc: !!int 3\n"),
            Ok("{a:\"3.0\" b:{} c:3}".into())
        );
        assert_eq!(
            refusal("a:\n- !secret x\n- !!seq y\n"),
            "p:2:11: a[0]: the YAML tag '!secret' is not supported here, expected none\n\
             p:3:9: a[1]: the YAML tag 'tag:yaml.org,2002:seq' is not supported here, expected none"
        );
        assert_eq!(
            refusal("- [x]\n- a: [x, y, {b: [x, [!s z]]}]\n  c: {d: [[x], !t y]}\n"),
            "p:2:25: [1].a[2].b[1][0]: the YAML tag '!s' is not supported here, expected none\n\
             p:3:19: [1].c.d[1]: the YAML tag '!t' is not supported here, expected none"
        );
    }

    #[test]
    fn read_empty_and_malformed_documents_are_refused() {
        let empty = "p:1:1: the document is empty, expected a mapping with '_format_version'";
        for text in ["", "# nothing\n", "---\n", "null\n"] {
            assert_eq!(refusal(text), empty, "{text:?}");
        }
        for (text, error) in [
            (
                "a: 1\n---\nb: 2\n",
                "p:2:1: a second YAML document starts here, expected one",
            ),
            ("? [a]\n: b\n", "p:1:3: a key must be text"),
            (
                "a: [1, 2\nb: 3\n",
                "p:2:2: not valid YAML: illegal placement of ':' indicator",
            ),
            ("a: \"b", "p:1:4: not valid YAML: unclosed quote"),
            (
                "a: b: c\n",
                "p:1:5: not valid YAML: mapping values are not allowed in this context; perhaps this \
                 line is indented deeper than the one above, the '-' of a list has no blank after \
                 it, or a text with ': ' has no quotes",
            ),
            (
                "a:\n\tb: c\n",
                "p:2:2: not valid YAML: tabs disallowed within this context (block indentation); \
                 expected blanks, as tabs do not indent in YAML",
            ),
            (
                "- a: b\n\tc: d\n",
                "p:1:6: not valid YAML: while scanning a plain scalar, found a tab; perhaps the \
                 line below begins with it, expected blanks, as tabs do not indent in YAML",
            ),
            (
                "a:\n  b: [c]\n d: e\n",
                "p:3:2: not valid YAML: while parsing a block mapping, did not find expected key; \
                 perhaps this line is indented otherwise than the lines above",
            ),
            (
                "a: b\nc:d\n",
                "p:2:1: not valid YAML: simple key expected ':'; perhaps the ':' of a name has no \
                 blank after it",
            ),
        ] {
            assert_eq!(refusal(text), error, "{text:?}");
        }
    }

    #[test]
    fn as_bool_reads_plain_yaml_1_1_booleans() {
        for (text, value) in [
            ("true", Some(true)),
            ("No", Some(false)),
            ("on", Some(true)),
            ("y", None),
            ("1", None),
        ] {
            assert_eq!(scalar(text, true).as_bool(), value, "{text}");
            assert_eq!(scalar(text, false).as_bool(), None, "{text}");
        }
    }

    #[test]
    fn as_number_reads_plain_finite_numbers() {
        for (text, value) in [
            ("10", Some(10.0)),
            ("-1", Some(-1.0)),
            ("3.0", Some(3.0)),
            (".5", Some(0.5)),
            ("1e3", Some(1000.0)),
            ("1e999", None),
            ("inf", None),
            ("nan", None),
            ("10.0.0.1", None),
            ("-", None),
            ("1x", None),
        ] {
            assert_eq!(scalar(text, true).as_number(), value, "{text}");
            assert_eq!(scalar(text, false).as_number(), None, "{text}");
        }
    }
}
