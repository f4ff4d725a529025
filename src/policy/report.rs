//! The errors and warnings of one policy document. Each is one line, and their number is bounded.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use granit_parser::Marker;

use super::outline::SourceLine;
use crate::text::quoted;

/// The largest number of errors, and of warnings, that are kept. Further ones are only counted.
const MAX_KEPT: usize = 1000;

/// The largest number of warnings of one kind in a gateway, which logs them at each reload. Further
/// ones are only counted. `resty-mtls check` has [`MAX_KEPT`].
const MAX_PER_KIND: usize = 10;

/// The largest number of names that are compared for the suggestions in one document. A document
/// may have 100,000 names and as many errors.
const MAX_COMPARED: usize = 1_000_000;

/// The longest text, in bytes, for which a suggestion is looked for.
const MAX_SUGGESTED_LEN: usize = 64;

/// The shortest value of an environment variable that is concealed in diagnostics, in bytes.
const MIN_CONCEALED: usize = 4;

/// The number of characters at the start of such a value by which it is found in a message.
const RECOGNISED_CHARS: usize = 12;

/// Whether a diagnostic refuses the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy is accepted, but a setting may not have the intended effect.
    Warning,
}

/// One error or warning about a policy. `Display` writes it on one line,
/// `FILE:LINE:COL: PATH: MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it refuses the policy.
    pub severity: Severity,
    /// The file, or the label that the caller gave to the text.
    pub file: Arc<str>,
    /// The line, from 1; 0 when the diagnostic concerns the document as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 when it concerns the document as a whole.
    pub column: u32,
    /// The path inside the document, such as `routes[0].plugins[1].config`; may be empty.
    pub path: String,
    /// What is wrong and what was expected.
    pub message: String,
}

/// Writes the path of a file in a one-line message. The path is not shortened, because its end
/// identifies the file, and control characters are escaped.
pub(crate) struct FileName<'a>(pub(crate) &'a str);

impl fmt::Display for FileName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\'' | '"' | '\\' => write!(f, "{c}")?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", FileName(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl Diagnostic {
    /// The error that a file cannot be read. `label` is its name in the diagnostic.
    pub fn unreadable(label: &str, error: &io::Error) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: label.into(),
            line: 0,
            column: 0,
            path: String::new(),
            message: format!("cannot be read: {error}"),
        }
    }
}

/// A position in the text. Line and column are 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub line: u32,
    pub column: u32,
}

impl Position {
    /// The position in the numbering of all files, for one in a file.
    pub fn after(self, base: u32) -> Position {
        Position {
            line: self.line.saturating_add(base),
            ..self
        }
    }

    pub fn of(marker: &Marker) -> Position {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position {
            line: number(marker.line()),
            column: number(marker.col().saturating_add(1)),
        }
    }
}

/// A path inside the document. It is a linked list on the stack that grows while the document is
/// walked, and is written out for a diagnostic only.
#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    Text(&'p str),
    Compact(&'p CompactPath),
    Field(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    pub const ROOT: Path<'static> = Path::Text("");

    pub fn field(&'p self, name: &'p str) -> Path<'p> {
        Path::Field(self, name)
    }

    pub fn item(&'p self, index: usize) -> Path<'p> {
        Path::Item(self, index)
    }

    fn is_root(&self) -> bool {
        matches!(
            self,
            Path::Text("") | Path::Compact(CompactPath::Steps([None, ..]))
        )
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |name: &str| {
            (1..=MAX_SUGGESTED_LEN).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        match self {
            Path::Text(text) => f.write_str(text),
            Path::Compact(compact) => compact.fmt(f),
            Path::Field(parent, name) if !plain(name) => {
                write!(f, "{parent}['{}']", quoted(name.as_bytes()))
            }
            Path::Field(parent, name) if parent.is_root() => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The lists of a document that hold entities.
const SECTIONS: [&str; 9] = [
    "ca_certificates",
    "trust_domains",
    "services",
    "routes",
    "plugins",
    "consumers",
    "mtls_auth_credentials",
    "header_cert_auth_credentials",
    "acls",
];

/// The path of an entity in a few bytes. A document may have 100,000 entities, so none of them has
/// a text of its own.
#[derive(Clone, Debug)]
pub(super) enum CompactPath {
    /// From the root on: an index of [`SECTIONS`], and an index in the list of that name.
    Steps([Option<(u8, u32)>; 3]),
    /// Any other path.
    Text(Box<str>),
}

impl Default for CompactPath {
    fn default() -> CompactPath {
        CompactPath::Steps([None; 3])
    }
}

impl CompactPath {
    pub fn of(path: &Path<'_>) -> CompactPath {
        CompactPath::steps(path).unwrap_or_else(|| CompactPath::Text(path.to_string().into()))
    }

    fn steps(mut path: &Path<'_>) -> Option<CompactPath> {
        let mut steps = [None; 3];
        // The steps are found from the leaf to the root, and reversed afterwards.
        let mut found = 0;
        while !path.is_root() {
            let Path::Item(Path::Field(parent, name), index) = path else {
                return None;
            };
            let section = SECTIONS.iter().position(|section| section == name)?;
            *steps.get_mut(found)? = Some((section as u8, u32::try_from(*index).ok()?));
            found += 1;
            path = parent;
        }
        steps.get_mut(..found)?.reverse();
        Some(CompactPath::Steps(steps))
    }
}

impl fmt::Display for CompactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = match self {
            CompactPath::Text(text) => return f.write_str(text),
            CompactPath::Steps(steps) => steps.iter().flatten(),
        };
        for (position, (section, index)) in steps.enumerate() {
            let dot = if position > 0 { "." } else { "" };
            let section = SECTIONS
                .get(usize::from(*section))
                .copied()
                .unwrap_or_default();
            write!(f, "{dot}{section}[{index}]")?;
        }
        Ok(())
    }
}

/// Replaces a value in a message by a reference to its variable, also where the message ends inside
/// the value.
fn conceal_value(message: &str, value: &str, name: &str) -> String {
    let start: String = value.chars().take(RECOGNISED_CHARS).collect();
    let mut out = String::new();
    let mut rest = message;
    while let Some((before, _)) = rest.split_once(&start) {
        let found = rest.get(before.len()..).unwrap_or_default();
        let same = found.chars().zip(value.chars());
        let len: usize = same
            .take_while(|(a, b)| a == b)
            .map(|(a, _)| a.len_utf8())
            .sum();
        out.push_str(before);
        out.push_str(&format!("${{{{ env \"{name}\" }}}}"));
        rest = found.get(len.max(1)..).unwrap_or_default();
    }
    out + rest
}

/// One file of a policy.
struct Source {
    file: Arc<str>,
    /// What is added to the numbers of its lines.
    base: u32,
    /// The numbers, in order, of lines of the expanded text that the file does not have.
    inserted_lines: Vec<u32>,
}

impl Source {
    fn new(file: &str, base: u32) -> Source {
        Source {
            file: file.into(),
            base,
            inserted_lines: Vec::new(),
        }
    }
}

/// The errors and warnings that are collected while a document is read and compiled.
pub(super) struct Report {
    /// The first file of the policy.
    first: Source,
    /// The other files, in the order in which they are read.
    others: Vec<Source>,
    errors: Vec<Diagnostic>,
    more_errors: usize,
    warnings: Vec<Diagnostic>,
    /// See [`Report::warn_untrusted_source`].
    untrusted_source_warning: Option<Diagnostic>,
    /// The subjects of [`Report::warn_once`].
    subjects: HashSet<String>,
    /// The number of warnings of each kind of [`Report::warn`].
    kinds: HashMap<&'static str, usize>,
    max_per_kind: usize,
    /// The number of names that were compared for suggestions.
    compared: usize,
    /// Environment variables with their values, which are secret.
    concealed: Vec<(String, String)>,
}

impl Report {
    pub fn new(file: &str) -> Report {
        Report {
            first: Source::new(file, 0),
            others: Vec::new(),
            errors: Vec::new(),
            more_errors: 0,
            warnings: Vec::new(),
            untrusted_source_warning: None,
            subjects: HashSet::new(),
            kinds: HashMap::new(),
            max_per_kind: MAX_PER_KIND,
            compared: 0,
            concealed: Vec::new(),
        }
    }

    /// Keeps as many warnings of one kind as of all kinds.
    pub fn keep_more_warnings(&mut self) {
        self.max_per_kind = MAX_KEPT;
    }

    /// Begins with the next file. `lines` is the number of lines of the expanded text of the file
    /// before. Lines are numbered through all files, so that a line tells which file it is of.
    pub fn begin_file(&mut self, file: &str, lines: usize) {
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        let base = self.line_base().saturating_add(lines).saturating_add(1);
        self.others.push(Source::new(file, base));
    }

    fn present(&self) -> &Source {
        self.others.last().unwrap_or(&self.first)
    }

    /// What is added to the numbers of lines of the present file.
    pub fn line_base(&self) -> u32 {
        self.present().base
    }

    /// The path of an entity in the document; with several files also its file and line.
    pub fn place(&self, position: Position, path: &CompactPath) -> String {
        if self.others.is_empty() {
            return path.to_string();
        }
        let (source, line) = self.source_of(position);
        format!("{}:{line}: {path}", FileName(&source.file))
    }

    /// The file and line of a position.
    pub fn source_line(&self, position: Position) -> SourceLine {
        let (source, line) = self.source_of(position);
        SourceLine {
            file: source.file.clone(),
            line,
        }
    }

    /// The file that a position is in, and the line there.
    fn source_of(&self, position: Position) -> (&Source, u32) {
        let index = self
            .others
            .partition_point(|source| source.base < position.line);
        let source = match index.checked_sub(1) {
            Some(index) => self.others.get(index).unwrap_or(&self.first),
            None => &self.first,
        };
        let line = position.line.saturating_sub(source.base);
        let inserted = &source.inserted_lines;
        let before = inserted.partition_point(|inserted| *inserted < line);
        (source, line.saturating_sub(before as u32))
    }

    /// Records that line `line` of the expanded text ends inside the value of a variable, so that
    /// the file has one line less.
    pub fn add_inserted_line(&mut self, line: u32) {
        let present = self.others.last_mut().unwrap_or(&mut self.first);
        present.inserted_lines.push(line);
    }

    /// The number of lines of the expanded text that the present file does not have.
    pub fn inserted_lines(&self) -> usize {
        self.present().inserted_lines.len()
    }

    /// Conceals the value of an environment variable in all further diagnostics.
    pub fn conceal(&mut self, name: &str, value: &str) {
        // A shorter value would be found in unrelated words.
        if value.len() >= MIN_CONCEALED {
            self.concealed.push((name.to_owned(), value.to_owned()));
        }
    }

    fn diagnostic(
        &self,
        severity: Severity,
        position: Position,
        path: &Path<'_>,
        mut message: String,
    ) -> Diagnostic {
        for (name, value) in &self.concealed {
            for value in [value.as_str(), &quoted(value.as_bytes())] {
                message = conceal_value(&message, value, name);
            }
        }
        let (source, line) = self.source_of(position);
        Diagnostic {
            severity,
            file: source.file.clone(),
            line,
            column: position.column,
            path: path.to_string(),
            message,
        }
    }

    /// Adds an error.
    pub fn error(&mut self, position: Position, path: &Path<'_>, message: impl Into<String>) {
        if self.errors.len() < MAX_KEPT {
            let error = self.diagnostic(Severity::Error, position, path, message.into());
            self.errors.push(error);
        } else {
            self.more_errors += 1;
        }
    }

    /// Adds a warning of a kind that may concern every route; the first few of a kind are kept.
    /// `kind` completes the line "120 more ".
    pub fn warn(
        &mut self,
        kind: &'static str,
        position: Position,
        path: &Path<'_>,
        message: impl FnOnce() -> String,
    ) {
        let count = self.kinds.entry(kind).or_insert(0);
        *count += 1;
        if *count <= self.max_per_kind {
            let warning = self.diagnostic(Severity::Warning, position, path, message());
            self.warnings.push(warning);
        }
    }

    /// Adds a warning, unless there was one about the same `subject`.
    pub fn warn_once(&mut self, subject: &str, position: Position, path: &Path<'_>, message: &str) {
        if self.subjects.len() < MAX_KEPT && self.subjects.insert(subject.to_owned()) {
            let warning = self.diagnostic(Severity::Warning, position, path, message.to_owned());
            self.warnings.push(warning);
        }
    }

    /// A number that grows with every diagnostic, whether it is kept or only counted.
    pub fn diagnostic_count(&self) -> usize {
        let counted: usize = self.kinds.values().sum();
        self.errors.len() + self.more_errors + self.warnings.len() + counted
    }

    /// Adds a warning about a header that is accepted from trusted peers only. It applies only if
    /// `trusted_ips` is empty, which is not known here, so it is kept apart from the others. The
    /// first one is enough, because one setting remedies all of them.
    pub fn warn_untrusted_source(&mut self, position: Position, path: &Path<'_>) {
        if self.untrusted_source_warning.is_none() {
            let message = "the header is accepted only from 'trusted_ips' of mtls.init, and that \
                           list is empty: every certificate in it is ignored; expected the \
                           addresses of the proxies that send it"
                .to_owned();
            self.untrusted_source_warning =
                Some(self.diagnostic(Severity::Warning, position, path, message));
        }
    }

    /// Takes the warning of [`Report::warn_untrusted_source`].
    pub fn take_untrusted_source_warning(&mut self) -> Option<Diagnostic> {
        self.untrusted_source_warning.take()
    }

    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Returns the errors if there are any, else the warnings, in the order of the text.
    pub fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let others = &self.others;
        let order = |diagnostic: &Diagnostic| {
            let mut others = others.iter();
            let file = others.position(|source| source.file == diagnostic.file);
            (file, diagnostic.line, diagnostic.column)
        };
        self.errors.sort_by_key(order);
        self.warnings.sort_by_key(order);
        if self.more_errors > 0 {
            let message = format!("{} more errors", self.more_errors);
            let more = self.diagnostic(Severity::Error, Position::default(), &Path::ROOT, message);
            self.errors.push(more);
        }
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_unstable();
        let limit = self.max_per_kind;
        let elsewhere = match limit < MAX_KEPT {
            true => "; resty-mtls check lists up to 1,000",
            false => "",
        };
        let more = kinds.into_iter().filter(|(_, &count)| count > limit);
        let more: Vec<_> = more
            .map(|(kind, count)| format!("{} more {kind}{elsewhere}", count - limit))
            .map(|text| self.diagnostic(Severity::Warning, Position::default(), &Path::ROOT, text))
            .collect();
        self.warnings.extend(more);
        Ok(self.warnings)
    }

    /// Returns `, did you mean 'x'?` with the candidate that is closest to `text`, as
    /// [`closest_name`], or an empty text.
    pub fn did_you_mean<'c>(
        &mut self,
        text: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> String {
        closest_within(
            text,
            candidates,
            max_typos(text),
            MAX_COMPARED,
            &mut self.compared,
        )
        .map_or(String::new(), |name| {
            format!(", did you mean '{}'?", quoted(name.as_bytes()))
        })
    }
}

/// Returns the candidate that `text` most likely is a misspelling of: at most a third of the
/// characters differ. `None` for a text of over 64 bytes.
pub fn closest_name<'c>(
    text: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    closest_within(text, candidates, max_typos(text), MAX_COMPARED, &mut 0)
}

/// The number of typing errors that are tolerated in a name of this length.
pub(super) fn max_typos(text: &str) -> usize {
    (text.len() / 3).max(1)
}

/// [`closest_name`] with at most `max_typos` typing errors. Adds the candidates that it looks at to
/// `compared`, and stops when that is `budget`.
pub(super) fn closest_within<'c>(
    text: &str,
    candidates: impl IntoIterator<Item = &'c str>,
    max_typos: usize,
    budget: usize,
    compared: &mut usize,
) -> Option<&'c str> {
    if text.len() > MAX_SUGGESTED_LEN {
        return None;
    }
    let mut best = max_typos + 1;
    let mut found = None;
    for candidate in candidates {
        if *compared >= budget {
            break;
        }
        *compared += 1;
        if text.len().abs_diff(candidate.len()) >= best {
            continue;
        }
        let distance = distance(text, candidate);
        if distance < best {
            (best, found) = (distance, Some(candidate));
        }
    }
    found
}

/// The number of typing errors between two names. Case, and `-` in place of `_`, do not count.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > MAX_SUGGESTED_LEN || b.len() > MAX_SUGGESTED_LEN {
        return usize::MAX;
    }
    let fold = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    strsim::osa_distance(&fold(a), &fold(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_path_is_shown_as_its_path() {
        let show = |path: &Path<'_>| {
            let compact = CompactPath::of(path);
            assert_eq!(compact.to_string(), path.to_string());
            let below = Path::Compact(&compact).field("x").to_string();
            assert_eq!(below, path.field("x").to_string());
            (path.to_string(), matches!(compact, CompactPath::Steps(_)))
        };
        let root = Path::ROOT;
        assert_eq!(show(&root), (String::new(), true));
        let services = root.field("services");
        let service = services.item(4_294_967_295);
        assert_eq!(show(&service), ("services[4294967295]".into(), true));
        let routes = service.field("routes");
        let route = routes.item(1);
        let plugins = route.field("plugins");
        let plugin = plugins.item(0);
        assert_eq!(
            show(&plugin),
            ("services[4294967295].routes[1].plugins[0]".into(), true)
        );
        let deeper = plugin.field("acls");
        assert!(!show(&deeper.item(7)).1);
        assert!(!show(&services.item(4_294_967_296)).1);
        assert!(!show(&services).1);
        assert!(!show(&root.item(1)).1);
        let (spaced, groups) = (root.field("o dd"), service.field("groups"));
        assert!(!show(&spaced.item(1)).1);
        assert!(!show(&groups.item(1)).1);
    }

    const POSITION: Position = Position { line: 3, column: 7 };

    fn lines(diagnostics: &[Diagnostic]) -> Vec<String> {
        diagnostics.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn display_has_file_position_path_and_message() {
        let root = Path::ROOT;
        let routes = root.field("routes");
        let route = routes.item(0);
        let mut report = Report::new("/etc/it's.yaml");
        report.error(POSITION, &route.field("snis"), "wrong");
        report.error(POSITION, &Path::ROOT, "no path");
        report.error(Position::default(), &Path::ROOT, "no position");
        assert_eq!(
            lines(&report.finish().unwrap_err()),
            [
                "/etc/it's.yaml: no position",
                "/etc/it's.yaml:3:7: routes[0].snis: wrong",
                "/etc/it's.yaml:3:7: no path",
            ]
        );
    }

    #[test]
    fn display_escapes_line_feeds_in_text_of_the_user() {
        let root = Path::ROOT;
        let mut report = Report::new("a\nb\u{1b}.yaml");
        report.warn_once("x", POSITION, &root.field("k\r\n'").field("ok"), "odd");
        report.warn_once("y", POSITION, &root.field(""), "empty");
        assert_eq!(
            lines(&report.finish().unwrap()),
            [
                "a\\nb\\u{1b}.yaml:3:7: warning: ['k\\r\\n\\''].ok: odd",
                "a\\nb\\u{1b}.yaml:3:7: warning: ['']: empty",
            ]
        );
    }

    #[test]
    fn finish_thousands_of_errors_are_counted() {
        let mut report = Report::new("p");
        for _ in 0..1234 {
            report.error(POSITION, &Path::ROOT, "wrong");
        }
        let lines = lines(&report.finish().unwrap_err());
        assert_eq!(lines.len(), 1001);
        assert_eq!(lines[999..], ["p:3:7: wrong", "p: 234 more errors"]);
    }

    #[test]
    fn finish_many_warnings_of_a_kind_are_counted() {
        let mut report = Report::new("p");
        for i in 0..12 {
            report.warn("odd routes", POSITION, &Path::ROOT, || format!("route {i}"));
        }
        report.warn_once("x", POSITION, &Path::ROOT, "once");
        report.warn_once("x", POSITION, &Path::ROOT, "once");
        let lines = lines(&report.finish().unwrap());
        assert_eq!(lines.len(), 12);
        assert_eq!(
            lines[9..],
            [
                "p:3:7: warning: route 9",
                "p:3:7: warning: once",
                "p: warning: 2 more odd routes; resty-mtls check lists up to 1,000"
            ]
        );
    }

    #[test]
    fn finish_a_thousand_warnings_of_a_kind_are_kept_where_they_are_wanted() {
        let mut report = Report::new("p");
        report.keep_more_warnings();
        for i in 0..1003 {
            report.warn("odd routes", POSITION, &Path::ROOT, || format!("route {i}"));
        }
        let lines = lines(&report.finish().unwrap());
        assert_eq!(lines.len(), 1001);
        assert_eq!(
            lines[999..],
            ["p:3:7: warning: route 999", "p: warning: 3 more odd routes"]
        );
    }

    #[test]
    fn did_you_mean_closest_name_only() {
        let names = ["send_ca_dn", "ca_certificates", "snis"];
        let mut report = Report::new("p");
        for (text, suggestion) in [
            ("send_ca_dnn", ", did you mean 'send_ca_dn'?"),
            ("Send-CA-DN", ", did you mean 'send_ca_dn'?"),
            ("sni", ", did you mean 'snis'?"),
            ("ca_certificate", ", did you mean 'ca_certificates'?"),
            ("paths", ""),
            ("", ""),
            (&"s".repeat(100), ""),
        ] {
            assert_eq!(report.did_you_mean(text, names), suggestion, "{text}");
        }
    }

    #[test]
    fn did_you_mean_among_very_many_names_stops() {
        let mut report = Report::new("p");
        let names = std::iter::repeat_n("abcdefgh", MAX_COMPARED - 1).chain(["snis", "snip"]);
        assert_eq!(report.did_you_mean("snit", names), ", did you mean 'snis'?");
        assert_eq!(report.did_you_mean("snit", ["snit"]), "");
    }
}
