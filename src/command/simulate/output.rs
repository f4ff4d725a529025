//! The results of cases as TAP and as JUnit XML.

use std::io::{self, Write};

use super::super::output::printable;
use super::Outcome;

/// The lines below a case that is not as expected.
fn diagnostics(outcome: &Outcome<'_>) -> Vec<String> {
    let mut lines = vec![format!("at {}", outcome.case.at)];
    lines.extend(outcome.differences.iter().cloned());
    if let Some(reason) = &outcome.explanation.reason {
        lines.push(format!("reason: {reason}"));
    }
    for step in &outcome.explanation.steps {
        if step.ok == Some(false) {
            lines.push(format!("{}: {}", step.step, step.detail));
            lines.extend(step.remedy.iter().map(|remedy| format!("remedy: {remedy}")));
        }
    }
    lines
}

/// Test Anything Protocol, version 13.
pub(super) fn write_tap(out: &mut dyn Write, outcomes: &[Outcome<'_>]) -> io::Result<()> {
    writeln!(out, "TAP version 13\n1..{}", outcomes.len())?;
    for (index, outcome) in outcomes.iter().enumerate() {
        let not = match outcome.differences.is_empty() {
            true => "",
            false => "not ",
        };
        // A number sign would begin a directive.
        let name = printable(outcome.case.name.as_bytes()).replace('#', "\\#");
        writeln!(out, "{not}ok {} - {name}", index + 1)?;
        for step in &outcome.explanation.steps {
            if step.step == "route" && outcome.case.route.is_none() {
                writeln!(out, "# route: {}", printable(step.detail.as_bytes()))?;
            }
        }
        if !not.is_empty() {
            for line in diagnostics(outcome) {
                writeln!(out, "# {}", printable(line.as_bytes()))?;
            }
        }
    }
    Ok(())
}

/// JUnit XML: one suite, a test case for each case with its route as class.
pub(super) fn write_junit(out: &mut dyn Write, outcomes: &[Outcome<'_>]) -> io::Result<()> {
    let is_failed = |outcome: &&Outcome<'_>| !outcome.differences.is_empty();
    let failures = outcomes.iter().filter(is_failed).count();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        out,
        "<testsuite name=\"resty-mtls simulate\" tests=\"{}\" failures=\"{failures}\" errors=\"0\">",
        outcomes.len()
    )?;
    for outcome in outcomes {
        let route = outcome.case.route.as_deref().unwrap_or("(no route)");
        write!(
            out,
            "  <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\"",
            xml(route),
            xml(&outcome.case.name),
            xml(&outcome.case.at.file),
            outcome.case.at.line
        )?;
        if outcome.differences.is_empty() {
            writeln!(out, "/>")?;
            continue;
        }
        let message = outcome.differences.join("; ");
        writeln!(out, ">\n    <failure message=\"{}\">", xml(&message))?;
        for line in diagnostics(outcome) {
            writeln!(out, "{}", xml(&line))?;
        }
        writeln!(out, "    </failure>\n  </testcase>")?;
    }
    writeln!(out, "</testsuite>")
}

/// Text for XML, in which control characters have no form at all.
fn xml(text: &str) -> String {
    printable(text.as_bytes())
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
