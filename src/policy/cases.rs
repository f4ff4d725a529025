//! A file of cases for `resty-mtls simulate`, read with the positions of its lines.

use super::outline::SourceLine;
use super::report::{Path, Position, Report};
use super::tree::{self, Node, Value};
use super::Diagnostic;
use crate::text::quoted;

/// Longest file of cases, in bytes.
pub const MAX_BYTES: usize = 8 << 20;

/// Most cases of a file.
pub const MAX_CASES: usize = 20_000;

const FILE_KEYS: &[&str] = &["cases"];
const CASE_KEYS: &[&str] = &[
    "name",
    "route",
    "sni",
    "host",
    "cert",
    "header",
    "token",
    "jwks",
    "discovery",
    "time",
    "expect",
];
const EXPECT_KEYS: &[&str] = &["status", "verdict", "consumer", "groups", "headers"];

/// What a case expects. Only what is there is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The status of the response, 200 for a request that is let in.
    pub status: Option<u16>,
    /// `NONE`, `SUCCESS` or `FAILED:<reason>`.
    pub verdict: Option<String>,
    /// The consumer; `Some(None)` for none.
    pub consumer: Option<Option<String>>,
    /// The groups, in any order.
    pub groups: Option<Vec<String>>,
    /// Headers for the upstream; `None` for one that must not be there.
    pub headers: Vec<(String, Option<String>)>,
}

/// A request and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where it is.
    pub at: SourceLine,
    /// Its name.
    pub name: String,
    /// The route; `None` for the global plugins.
    pub route: Option<String>,
    /// The server name: `None` for the default, empty for a client without SNI.
    pub sni: Option<String>,
    /// The Host.
    pub host: Option<String>,
    /// The file of the client's certificate.
    pub cert: Option<String>,
    /// The headers of the request.
    pub headers: Vec<(String, String)>,
    /// The token of the request.
    pub token: Option<String>,
    /// The file of the keys of its issuer.
    pub jwks: Option<String>,
    /// The file of the discovery document of its issuer.
    pub discovery: Option<String>,
    /// The time.
    pub time: Option<String>,
    /// What is expected.
    pub expect: Expected,
}

/// Reads the cases of a file: YAML or JSON. `label` is its name in diagnostics.
///
/// # Errors
/// All errors, each with file and line.
pub fn read(text: &[u8], label: &str) -> Result<Vec<Case>, Vec<Diagnostic>> {
    let mut report = Report::new(label);
    let cases = match std::str::from_utf8(text) {
        _ if text.len() > MAX_BYTES => {
            let message = format!("over {} MB, the limit for cases", MAX_BYTES >> 20);
            report.error(Position::default(), &Path::ROOT, message);
            Vec::new()
        }
        Err(_) => {
            let message = "not UTF-8, expected YAML or JSON";
            report.error(Position::default(), &Path::ROOT, message);
            Vec::new()
        }
        Ok(text) => match tree::read(text, 0, &mut report) {
            Some(root) => Reader(&mut report).file(&root),
            None => Vec::new(),
        },
    };
    report.finish().map(|_| cases)
}

struct Reader<'r>(&'r mut Report);

type Entries<'n, 't> = &'n [(tree::Key<'t>, Node<'t>)];

impl Reader<'_> {
    fn expected(&mut self, node: &Node<'_>, path: &Path<'_>, what: &str) {
        let message = format!("{}, expected {what}", node.describe());
        self.0.error(node.position, path, message);
    }

    /// The entries of a mapping whose keys are known.
    fn mapping<'n, 't>(
        &mut self,
        node: &'n Node<'t>,
        path: &Path<'_>,
        known: &[&str],
    ) -> Entries<'n, 't> {
        let entries = self.entries(node, path);
        for (key, _) in entries {
            let name = &*key.text;
            if !known.contains(&name) {
                let hint = match self.0.did_you_mean(name, known.iter().copied()) {
                    hint if hint.is_empty() => format!(", expected one of {}", known.join(", ")),
                    hint => hint,
                };
                let message = format!("unknown key '{}'{hint}", quoted(name.as_bytes()));
                self.0.error(key.position, path, message);
            }
        }
        entries
    }

    fn entries<'n, 't>(&mut self, node: &'n Node<'t>, path: &Path<'_>) -> Entries<'n, 't> {
        match &node.value {
            Value::Map(entries) => entries,
            _ => {
                self.expected(node, path, "a mapping");
                &[]
            }
        }
    }

    fn list<'n, 't>(&mut self, node: &'n Node<'t>, path: &Path<'_>) -> &'n [Node<'t>] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.expected(node, path, "a list");
                &[]
            }
        }
    }

    /// Text of a scalar, also of a plain number.
    fn text(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
        match node.as_text().filter(|_| !node.is_null()) {
            Some(text) => Some(text.to_owned()),
            None => {
                self.expected(node, path, "text");
                None
            }
        }
    }

    fn file(&mut self, root: &Node<'_>) -> Vec<Case> {
        let path = Path::ROOT;
        let entries = self.mapping(root, &path, FILE_KEYS);
        let Some((_, node)) = entries.iter().find(|(key, _)| &*key.text == "cases") else {
            let message = "the required key 'cases' is missing";
            self.0.error(root.position, &path, message);
            return Vec::new();
        };
        let path = path.field("cases");
        let items = self.list(node, &path);
        if items.len() > MAX_CASES {
            let message = format!("{} cases, expected at most {MAX_CASES}", items.len());
            self.0.error(node.position, &path, message);
            return Vec::new();
        }
        let mut cases = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            cases.push(self.case(item, &path.item(index), index));
        }
        cases
    }

    fn case(&mut self, node: &Node<'_>, path: &Path<'_>, index: usize) -> Case {
        let mut case = Case {
            at: self.0.source_line(node.position),
            name: format!("case {}", index + 1),
            route: None,
            sni: None,
            host: None,
            cert: None,
            headers: Vec::new(),
            token: None,
            jwks: None,
            discovery: None,
            time: None,
            expect: Expected::default(),
        };
        let mut has_expect = false;
        for (key, value) in self.mapping(node, path, CASE_KEYS) {
            let path = path.field(&key.text);
            let text = match &*key.text {
                "name" => {
                    case.name = self.text(value, &path).unwrap_or_default();
                    continue;
                }
                "header" => {
                    self.headers(value, &path, &mut case.headers);
                    continue;
                }
                "expect" => {
                    has_expect = true;
                    self.expect(value, &path, &mut case.expect);
                    continue;
                }
                "route" => &mut case.route,
                "sni" => &mut case.sni,
                "host" => &mut case.host,
                "cert" => &mut case.cert,
                "token" => &mut case.token,
                "jwks" => &mut case.jwks,
                "discovery" => &mut case.discovery,
                "time" => &mut case.time,
                _ => continue,
            };
            if !value.is_null() {
                *text = self.text(value, &path);
            }
        }
        if !has_expect {
            let message = "the required key 'expect' is missing";
            self.0.error(node.position, path, message);
        }
        case
    }

    /// A mapping of names to values, or one `Name: value`.
    fn headers(&mut self, node: &Node<'_>, path: &Path<'_>, headers: &mut Vec<(String, String)>) {
        if let Some(line) = node.as_text() {
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => self.expected(node, path, "'Name: value', or a mapping of names to values"),
            }
            return;
        }
        for (key, value) in self.entries(node, path) {
            let path = path.field(&key.text);
            if let Some(value) = self.text(value, &path) {
                headers.push((key.text.to_string(), value));
            }
        }
    }

    fn expect(&mut self, node: &Node<'_>, path: &Path<'_>, expect: &mut Expected) {
        let entries = self.mapping(node, path, EXPECT_KEYS);
        if entries.is_empty() && matches!(node.value, Value::Map(_)) {
            self.expected(
                node,
                path,
                "at least one of status, verdict, consumer, groups, headers",
            );
        }
        for (key, value) in entries {
            let path = path.field(&key.text);
            match &*key.text {
                "status" => {
                    let number = value.as_number().filter(|number| number.fract() == 0.0);
                    let number = number.filter(|number| (100.0..600.0).contains(number));
                    if number.is_none() {
                        self.expected(value, &path, "a status from 100 to 599");
                    }
                    expect.status = number.map(|number| number as u16);
                }
                "verdict" => expect.verdict = self.text(value, &path),
                "consumer" => {
                    expect.consumer = Some(match value.is_null() {
                        true => None,
                        false => self.text(value, &path),
                    });
                }
                "groups" => {
                    let items = self.list(value, &path).iter().enumerate();
                    let groups =
                        items.filter_map(|(index, item)| self.text(item, &path.item(index)));
                    expect.groups = Some(groups.collect());
                }
                "headers" => {
                    for (name, value) in self.entries(value, &path) {
                        let path = path.field(&name.text);
                        let value = match value.is_null() {
                            true => None,
                            false => self.text(value, &path),
                        };
                        expect.headers.push((name.text.to_string(), value));
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_reports_unknown_keys_and_wrong_types_with_their_lines() {
        let text = "cases:\n- name: one\n  rute: a\n  expect: {status: 200, verdikt: x}\n- cert: \
                    [a]\n  expect: {status: ok, groups: x, consumer: null}\n- name: three\n- expect: {}\n";
        let errors = read(text.as_bytes(), "cases.yaml").unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "cases.yaml:3:3: cases[0]: unknown key 'rute', did you mean 'route'?",
                "cases.yaml:4:25: cases[0].expect: unknown key 'verdikt', did you mean 'verdict'?",
                "cases.yaml:5:9: cases[1].cert: a list, expected text",
                "cases.yaml:6:20: cases[1].expect.status: 'ok', expected a status from 100 to 599",
                "cases.yaml:6:32: cases[1].expect.groups: 'x', expected a list",
                "cases.yaml:7:3: cases[2]: the required key 'expect' is missing",
                "cases.yaml:8:11: cases[3].expect: a mapping, expected at least one of status, \
                 verdict, consumer, groups, headers",
            ]
        );
        for (text, error) in [
            ("cases: x\n", "c:1:8: cases: 'x', expected a list"),
            (
                "case: []\n",
                "c:1:1: unknown key 'case', did you mean 'cases'?",
            ),
            ("\u{0}", "c:1:1: "),
        ] {
            let errors = read(text.as_bytes(), "c").unwrap_err();
            assert!(errors[0].to_string().starts_with(error), "{errors:?}");
        }
        assert_eq!(
            read(b"\xff", "c").unwrap_err()[0].to_string(),
            "c: not UTF-8, expected YAML or JSON"
        );
    }

    #[test]
    fn read_a_case_with_every_key() {
        let text = "cases:\n- name: all\n  route: r\n  sni: ''\n  host: h\n  cert: c.pem\n  header: \
                    {A: b, C: 1}\n  token: t\n  jwks: k\n  discovery: d\n  time: 2027-01-31\n  \
                    expect:\n    status: 401\n    verdict: NONE\n    consumer: null\n    groups: [a]\n    \
                    headers: {X: y, Z: null}\n";
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            read(text.as_bytes(), "c").unwrap(),
            [Case {
                at: SourceLine {
                    file: "c".into(),
                    line: 2
                },
                name: "all".to_owned(),
                route: some("r"),
                sni: some(""),
                host: some("h"),
                cert: some("c.pem"),
                headers: vec![
                    ("A".to_owned(), "b".to_owned()),
                    ("C".to_owned(), "1".to_owned())
                ],
                token: some("t"),
                jwks: some("k"),
                discovery: some("d"),
                time: some("2027-01-31"),
                expect: Expected {
                    status: Some(401),
                    verdict: some("NONE"),
                    consumer: Some(None),
                    groups: Some(vec!["a".to_owned()]),
                    headers: vec![("X".to_owned(), some("y")), ("Z".to_owned(), None)],
                },
            }]
        );
    }
}
