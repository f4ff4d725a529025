//! Builds the tree from the events of the YAML parser.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, ScalarStyle, Span, Tag};

use super::super::report::{Path, Position, Report};
use super::{Fatal, Key, Node, Value, MAX_DEPTH};
use crate::text::quoted;

/// The largest number of values in a document, with aliases expanded.
const MAX_NODES: usize = 4_000_000;

/// The largest number of keys of a mapping that merges others with `<<`.
const MAX_MERGED: usize = 1000;

/// The largest mapping whose keys are compared pairwise to find duplicates.
const SMALL_MAP: usize = 16;

/// The tags of the YAML core schema that a scalar may have.
const SCALAR_TAGS: &[&str] = &["str", "int", "float", "bool", "null"];

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
pub(super) enum OpenContent<'a> {
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
pub(super) struct Subtree<'a> {
    pub(super) node: Node<'a>,
    pub(super) size: usize,
    pub(super) height: usize,
}

pub(super) struct Builder<'a, 'r> {
    pub(super) report: &'r mut Report,
    frames: Vec<Frame<'a>>,
    /// The items of all open lists, one list after the other. Each list is allocated once, when it
    /// is complete.
    pub(super) items: Vec<Node<'a>>,
    /// The entries of all open mappings, in the same way.
    pub(super) entries: Vec<(Key<'a>, Node<'a>)>,
    anchors: HashMap<usize, Subtree<'a>>,
    pub(super) root: Option<Node<'a>>,
    /// What is added to the numbers of lines.
    pub(super) base: u32,
    pub(super) nodes: usize,
    documents: usize,
}

impl<'a, 'r> Builder<'a, 'r> {
    pub(super) fn new(report: &'r mut Report) -> Builder<'a, 'r> {
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

    pub(super) fn event(&mut self, event: Event<'a>, span: Span) -> Result<(), Fatal> {
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

    pub(super) fn open(
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

    pub(super) fn close(&mut self) -> Result<(), Fatal> {
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
    pub(super) fn finish(&mut self, anchor: usize, finished: Subtree<'a>) -> Result<(), Fatal> {
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
