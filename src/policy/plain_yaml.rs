//! YAML files of other programs, for the command: several documents, each value with its line.

use super::report::{Diagnostic, Report};
use super::tree::{self, Node, Value};

/// Most values of a file, aliases expanded.
const MAX_VALUES: usize = 500_000;

/// A value and its line, from 1.
#[derive(Clone, Debug)]
pub(crate) struct PlainYaml {
    pub line: u32,
    pub value: PlainValue,
}

#[derive(Clone, Debug)]
pub(crate) enum PlainValue {
    /// Text, a number, a boolean or null.
    Scalar(String),
    List(Vec<PlainYaml>),
    Map(Vec<(String, PlainYaml)>),
}

impl PlainYaml {
    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&PlainYaml> {
        self.entries()
            .iter()
            .find_map(|(found, value)| (found == key).then_some(value))
    }

    /// The keys and values of a mapping; none of anything else.
    pub fn entries(&self) -> &[(String, PlainYaml)] {
        match &self.value {
            PlainValue::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[PlainYaml] {
        match &self.value {
            PlainValue::List(items) => items,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            PlainValue::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads all documents of a file that are not empty.
///
/// # Errors
/// What is wrong in it.
pub(crate) fn read(file: &str, text: &str) -> Result<Vec<PlainYaml>, Vec<Diagnostic>> {
    let mut documents = Vec::new();
    let mut left = MAX_VALUES;
    for (base, document) in split(text) {
        let is_empty = |line: &str| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        };
        if document.lines().all(is_empty) {
            continue;
        }
        let mut report = Report::new(file);
        let root = tree::read(&document, base, &mut report);
        let Some(root) = root.filter(|_| !report.has_errors()) else {
            return Err(report.finish().err().unwrap_or_default());
        };
        let Some(converted) = convert(&root, &mut left) else {
            let message = format!("more than {MAX_VALUES} values, aliases expanded");
            let root = super::report::Path::ROOT;
            report.error(
                super::report::Position {
                    line: base + 1,
                    column: 1,
                },
                &root,
                message,
            );
            return Err(report.finish().err().unwrap_or_default());
        };
        documents.push(converted);
    }
    Ok(documents)
}

/// The documents, each with the number of lines before it. A line that begins with `---` or `...`
/// and a blank begins or ends one, also inside of text (YAML 1.2.2, rule c-forbidden).
fn split(text: &str) -> Vec<(u32, String)> {
    let mut documents = vec![(0, String::new())];
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let is_marker = |marker: &str| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        let base = u32::try_from(index).unwrap_or(u32::MAX);
        if is_marker("---") || is_marker("...") {
            let rest = line.get(3..).unwrap_or_default();
            documents.push((base, format!("   {rest}")));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
        }
    }
    documents
}

/// `None` if no more values are left.
fn convert(node: &Node<'_>, left: &mut usize) -> Option<PlainYaml> {
    *left = left.checked_sub(1)?;
    let value = match &node.value {
        Value::Scalar { text, .. } => PlainValue::Scalar(text.to_string()),
        Value::List(items) => {
            let items = items.iter().map(|item| convert(item, left));
            PlainValue::List(items.collect::<Option<_>>()?)
        }
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Some((key.text.to_string(), convert(value, left)?)));
            PlainValue::Map(entries.collect::<Option<_>>()?)
        }
    };
    let line = node.position.line;
    Some(PlainYaml { line, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_the_lines_of_the_file() {
        let text = "# empty\n---\na: 1\nb: |\n  x\n  y\n--- # c\n{c: [d, e]}\n...\n---\n";
        let documents = read("f", text).unwrap();
        assert_eq!(documents.len(), 2);
        let [first, second] = documents.as_slice() else {
            panic!()
        };
        // The text of a block begins below its key.
        assert_eq!((first.line, first.get("b").unwrap().line), (3, 5));
        assert_eq!(first.get("b").unwrap().text(), Some("x\ny\n"));
        let list = second.get("c").unwrap();
        assert_eq!((list.line, list.items()[1].text()), (8, Some("e")));
        assert!(second.get("d").is_none() && list.get("c").is_none() && list.text().is_none());
    }

    #[test]
    fn errors_have_the_line_of_the_file() {
        for (text, message) in [
            ("a: 1\n---\nb: [\n", "f:3:4: not valid YAML"),
            ("a: &a [x]\n---\nb: *a\n", "f:3:4: not valid YAML"),
        ] {
            let errors = read("f", text).unwrap_err();
            let error = errors[0].to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let many = format!("[{}]", "x,".repeat(MAX_VALUES));
        let error = read("f", &many).unwrap_err()[0].to_string();
        assert_eq!(error, "f:1:1: more than 500000 values, aliases expanded");
    }
}
