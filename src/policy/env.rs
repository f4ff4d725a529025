//! Replaces `${{ env "DECK_NAME" }}` in the text of a policy by the value of an environment
//! variable, before the YAML is parsed, as decK does.

use std::borrow::Cow;
use std::env::{self, VarError};

use super::report::{Path, Position, Report};
use super::MAX_BYTES;
use crate::text::quoted;

const OPEN: &str = "${{";
const CLOSE: &str = "}}";
const PREFIX: &str = "DECK_";
const EXPECTED: &str = "expected ${{ env \"DECK_NAME\" }}, optionally with | and one of toBool, \
                        toInt, toFloat, indent N after the name";

/// The largest argument of `indent`.
const MAX_INDENT: usize = 100;

/// Replaces the references in `text`. Lines whose first character is `#` are not changed. Errors
/// are added to the report, which also conceals the values in all further diagnostics. `None` when
/// the text would become too long.
pub(super) fn expand<'t>(text: &'t str, report: &mut Report) -> Option<Cow<'t, str>> {
    expand_with(text, report, |name| env::var(name))
}

fn expand_with<'t>(
    text: &'t str,
    report: &mut Report,
    get: impl Fn(&str) -> Result<String, VarError>,
) -> Option<Cow<'t, str>> {
    if !text.contains(OPEN) {
        return Some(Cow::Borrowed(text));
    }
    let mut expanded = String::with_capacity(text.len());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_start().starts_with('#') {
            expanded.push_str(line);
            continue;
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once(OPEN) {
            expanded.push_str(before);
            let (reference, after) = match after.split_once(CLOSE) {
                Some((reference, after)) => (Some(reference), after),
                None => (None, ""),
            };
            let value = match reference {
                Some(reference) => evaluate(reference, &get, report),
                None => Err(format!("'{OPEN}' without '{CLOSE}', {EXPECTED}")),
            };
            match value {
                Ok(value) => {
                    for _ in value.matches('\n') {
                        report.add_inserted_line(expanded_line(number, report));
                    }
                    expanded.push_str(&value);
                }
                Err(message) => {
                    let column = line.len() - rest.len() + before.len();
                    let column = line.get(..column).map_or(0, |text| text.chars().count());
                    let position = position_from_zero(number, column, report);
                    report.error(position, &Path::ROOT, message);
                }
            }
            rest = after;
        }
        expanded.push_str(rest);
        if expanded.len() > MAX_BYTES {
            let message = format!(
                "over {} MB with the values of the environment, the limit for a policy",
                MAX_BYTES >> 20
            );
            let position = position_from_zero(number, 0, report);
            report.error(position, &Path::ROOT, message);
            return None;
        }
    }
    Some(Cow::Owned(expanded))
}

/// Converts the number of a line of the text, from 0, to that of the expanded text, from 1.
fn expanded_line(number: usize, report: &Report) -> u32 {
    let number = number
        .saturating_add(1)
        .saturating_add(report.inserted_lines());
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Converts a line and a column that are counted from 0.
fn position_from_zero(line: usize, column: usize, report: &Report) -> Position {
    let number = |n: usize| u32::try_from(n.saturating_add(1)).unwrap_or(u32::MAX);
    Position {
        line: number(line).saturating_add(report.line_base()),
        column: number(column),
    }
}

/// Evaluates a reference, the text between `${{` and `}}`.
fn evaluate(
    reference: &str,
    get: impl Fn(&str) -> Result<String, VarError>,
    report: &mut Report,
) -> Result<String, String> {
    let invalid = || {
        let reference = quoted(reference.trim().as_bytes());
        format!("'{OPEN} {reference} {CLOSE}' is not a valid reference, {EXPECTED}")
    };
    let mut parts = reference.split('|').map(str::trim);
    let name = parts
        .next()
        .and_then(|call| call.strip_prefix("env"))
        .map(str::trim_start)
        .and_then(|name| name.strip_prefix('"')?.strip_suffix('"'))
        .filter(|name| !name.contains(['"', '\\', '=', '\0']))
        .ok_or_else(invalid)?;
    if !name.starts_with(PREFIX) {
        return Err(format!(
            "environment variables must be prefixed with '{PREFIX}', found: '{}'",
            quoted(name.as_bytes())
        ));
    }
    let mut value = get(name).map_err(|error| match error {
        VarError::NotPresent => format!(
            "environment variable '{}' present in the policy but not set",
            quoted(name.as_bytes())
        ),
        VarError::NotUnicode(_) => {
            format!(
                "environment variable '{}' is not UTF-8",
                quoted(name.as_bytes())
            )
        }
    })?;
    report.conceal(name, &value);
    for function in parts {
        let mut words = function.split_whitespace();
        let not = |what: &str| {
            // The message does not show the value, which may be a secret.
            format!(
                "environment variable '{}' is not {what}",
                quoted(name.as_bytes())
            )
        };
        value = match (words.next(), words.next(), words.next()) {
            (Some("toBool"), None, None) => match value.as_str() {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => "true".to_owned(),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => "false".to_owned(),
                _ => return Err(not("a boolean")),
            },
            (Some("toInt"), None, None) => {
                let number: Result<i64, _> = value.parse();
                number.map_err(|_| not("an integer"))?.to_string()
            }
            (Some("toFloat"), None, None) => {
                let number: Option<f64> = value.parse().ok();
                number
                    .filter(|number| number.is_finite())
                    .ok_or_else(|| not("a number"))?
                    .to_string()
            }
            (Some("indent"), Some(spaces), None) => {
                let spaces = spaces.parse().ok().filter(|spaces| *spaces <= MAX_INDENT);
                let spaces = spaces.ok_or_else(invalid)?;
                value.replace('\n', &format!("\n{}", " ".repeat(spaces)))
            }
            _ => return Err(invalid()),
        };
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(name: &str) -> Result<String, VarError> {
        match name {
            "DECK_ISSUER" => Ok("https://idp.example".to_owned()),
            "DECK_EMPTY" => Ok(String::new()),
            "DECK_YES" => Ok("T".to_owned()),
            "DECK_PORT" => Ok("0443".to_owned()),
            "DECK_RATIO" => Ok("1.50".to_owned()),
            "DECK_PEM" => Ok("a\nb\nc".to_owned()),
            "DECK_SECRET" => Ok("s3cret-value".to_owned()),
            _ => Err(VarError::NotPresent),
        }
    }

    fn expand(text: &str) -> Result<String, Vec<String>> {
        let mut report = Report::new("p");
        let expanded = expand_with(text, &mut report, get);
        match report.finish() {
            Ok(_) => Ok(expanded.unwrap().into_owned()),
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn expand_replaces_references() {
        for (text, expected) in [
            (
                "a: ${{ env \"DECK_ISSUER\" }}\n",
                "a: https://idp.example\n",
            ),
            (
                "a: '${{env \"DECK_ISSUER\"}}/x'",
                "a: 'https://idp.example/x'",
            ),
            ("a: [${{ env \"DECK_EMPTY\" }}]", "a: []"),
            (
                "${{ env \"DECK_YES\" | toBool }} ${{ env \"DECK_PORT\" | toInt }} \
                 ${{ env \"DECK_RATIO\" | toFloat }}",
                "true 443 1.5",
            ),
            (
                "cert: |\n  ${{ env \"DECK_PEM\" | indent 2 }}\nx: y\n",
                "cert: |\n  a\n  b\n  c\nx: y\n",
            ),
            (
                "  # ${{ env \"NOT_OURS\" }}\na: b",
                "  # ${{ env \"NOT_OURS\" }}\na: b",
            ),
            ("a: b", "a: b"),
        ] {
            assert_eq!(expand(text).unwrap(), expected);
        }
    }

    #[test]
    fn expand_reports_every_error() {
        let text = "a: ${{ env \"HOME\" }}\nb: ${{ env \"DECK_NONE\" }} ${{ env 'DECK_X' }}\n\
                    c: ${{ env \"DECK_ISSUER\" | toInt }}\nd: ${{ env \"DECK_ISSUER\" | upper }}\n\
                    e: ${{ env \"DECK_ISSUER\"";
        assert_eq!(
            expand(text).unwrap_err(),
            [
                "p:1:4: environment variables must be prefixed with 'DECK_', found: 'HOME'"
                    .to_owned(),
                "p:2:4: environment variable 'DECK_NONE' present in the policy but not set"
                    .to_owned(),
                format!("p:2:27: '${{{{ env \\'DECK_X\\' }}}}' is not a valid reference, {EXPECTED}"),
                "p:3:4: environment variable 'DECK_ISSUER' is not an integer".to_owned(),
                format!(
                    "p:4:4: '${{{{ env \"DECK_ISSUER\" | upper }}}}' is not a valid reference, {EXPECTED}"
                ),
                format!("p:5:4: '${{{{' without '}}}}', {EXPECTED}"),
            ]
        );
    }

    #[test]
    fn report_after_expansion_has_the_line_of_the_file_and_no_value() {
        let mut report = Report::new("p");
        let text = "a: |\n  ${{ env \"DECK_PEM\" | indent 2 }}\nb: ${{ env \"DECK_SECRET\" }}\n";
        let expanded = expand_with(text, &mut report, get).unwrap();
        let line = expanded.lines().position(|line| line.starts_with("b:"));
        assert_eq!(line, Some(4));
        for line in [1, 2, 4, 5] {
            let position = Position { line, column: 1 };
            report.error(position, &Path::ROOT, "'s3cret-value', expected text");
        }
        let shown = quoted("x-s3cret-value-of-a-far-longer-text".as_bytes());
        report.conceal("DECK_LONG", &"long'secret".repeat(20));
        let shown_long = quoted("long'secret".repeat(20).as_bytes());
        report.error(
            Position::default(),
            &Path::ROOT,
            format!("'{shown_long}' '{shown}'"),
        );
        let mut errors = report.finish().unwrap_err();
        let long = errors.remove(0);
        assert_eq!(
            long.message,
            "'${{ env \"DECK_LONG\" }}' 'x-${{ env \"DECK_SECRET\" }}-of-a-far-longer-text'"
        );
        let lines: Vec<u32> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 2, 2, 3]);
        assert_eq!(
            errors[0].message,
            "'${{ env \"DECK_SECRET\" }}', expected text"
        );
    }
}
