//! Parses YAML or JSON text into a tree of nodes, each with its position in the text.
//!
//! The tree is built from the events of the YAML parser, not through serde. A policy of 100,000
//! routes loads in a third of the time, errors have the position of keys as well as of values, and
//! a plain `no` is still the text `no` in an error about the type of a field. Plain JSON is read
//! without that parser, see [`json`].

mod builder;
mod json;

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use granit_parser::{self, ErrorKind, Parser, ScanError};

use super::pem_text;
use super::report::{Path, Position, Report};
use crate::text::quoted;

use builder::Builder;

/// The deepest nesting of lists and mappings, with aliases expanded.
const MAX_DEPTH: usize = 32;

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

#[cfg(test)]
mod tests;
