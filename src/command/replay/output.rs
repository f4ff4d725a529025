//! The result of a replay as text and as JSON.

use std::io::{self, Write};

use serde_json::{json, Value};

use super::super::audit::AuditEntry;
use super::super::output::{self, printable};
use super::judge::{Change, Judgement};
use super::{Log, Seen};

type Judged<'l> = (&'l AuditEntry, &'l Seen, Judgement);

/// As which consumer a client is let in.
fn as_consumer(change: &Change) -> String {
    match &change.consumer {
        Some(consumer) => format!("as '{}'", printable(consumer.as_bytes())),
        None => "without a consumer".to_owned(),
    }
}

fn requests_text(count: u64) -> String {
    match count {
        1 => "1 request".to_owned(),
        count => format!("{count} requests"),
    }
}

/// Writes the clients of one kind.
fn write_kind<'j>(
    out: &mut dyn Write,
    title: &str,
    judged: &'j [Judged<'_>],
    of_kind: impl Fn(&'j Judgement) -> Option<String>,
) -> io::Result<()> {
    let found: Vec<_> = judged
        .iter()
        .filter_map(|(entry, seen, judgement)| Some((entry, seen, of_kind(judgement)?)))
        .collect();
    let requests: u64 = found.iter().map(|(_, seen, _)| seen.requests).sum();
    writeln!(
        out,
        "{title}: {} ({})",
        found.len(),
        requests_text(requests)
    )?;
    for (entry, seen, text) in found {
        let who = match (&entry.subject, &entry.sha256) {
            (Some(subject), _) => printable(subject.as_bytes()),
            (None, Some(digest)) => format!("certificate {digest}"),
            (None, None) => "without certificate".to_owned(),
        };
        let route = entry.route.as_deref().unwrap_or("(no route)");
        let host = entry.host.as_deref().unwrap_or_default();
        let (route, host) = (printable(route.as_bytes()), printable(host.as_bytes()));
        let requests = requests_text(seen.requests);
        writeln!(out, "  {route} {host} {who} ({requests})")?;
        for line in text.lines() {
            writeln!(out, "    {}", printable(line.as_bytes()))?;
        }
    }
    Ok(())
}

fn reason(change: &Change) -> String {
    let mut text = format!("status {}", change.status);
    if let Some(reason) = &change.reason {
        text += &format!(": {reason}");
    }
    if let Some(remedy) = &change.remedy {
        text += &format!("\nremedy: {remedy}");
    }
    text
}

pub(super) fn write_text(out: &mut dyn Write, log: &Log, judged: &[Judged<'_>]) -> io::Result<()> {
    write_kind(
        out,
        "would be refused",
        judged,
        |judgement| match judgement {
            Judgement::Refused(change) => Some(reason(change)),
            _ => None,
        },
    )?;
    write_kind(
        out,
        "would be mapped otherwise",
        judged,
        |judgement| match judgement {
            Judgement::Mapped(change) => Some(as_consumer(change)),
            _ => None,
        },
    )?;
    write_kind(
        out,
        "would be let in",
        judged,
        |judgement| match judgement {
            Judgement::LetIn(change) => Some(as_consumer(change)),
            _ => None,
        },
    )?;
    write_kind(out, "not judged", judged, |judgement| match judgement {
        Judgement::NotJudged(why) => Some(why.clone()),
        _ => None,
    })?;
    let same = judged.iter();
    let same = same.filter(|(.., judgement)| matches!(judgement, Judgement::Same));
    writeln!(out, "same: {}", same.count())?;
    writeln!(
        out,
        "requests: {}, not decided by the module: {}, lines not read: {}, left out over the limit: \
         {}",
        log.requests, log.undecided, log.unreadable, log.left_out
    )
}

fn client_json(entry: &AuditEntry, seen: &Seen) -> Value {
    json!({
        "route": entry.route,
        "server_name": entry.server_name,
        "host": entry.host,
        "sha256": entry.sha256,
        "subject": entry.subject,
        "requests": seen.requests,
        "address": seen.address,
        "last": seen.time,
        "before": {
            "decision": entry.decision,
            "verify": entry.verify,
            "consumer": entry.consumer,
        },
    })
}

/// `{refused, mapped, let_in, not_judged, same, requests, undecided, unreadable, left_out}`.
pub(super) fn write_json(out: &mut dyn Write, log: &Log, judged: &[Judged<'_>]) -> io::Result<()> {
    let (mut refused, mut mapped) = (Vec::new(), Vec::new());
    let (mut let_in, mut not_judged) = (Vec::new(), Vec::new());
    let mut same = 0u64;
    for (entry, seen, judgement) in judged {
        let mut client = client_json(entry, seen);
        let (list, key, value) = match judgement {
            Judgement::Same => {
                same += 1;
                continue;
            }
            Judgement::Refused(change) => (&mut refused, "after", change_json(change)),
            Judgement::Mapped(change) => (&mut mapped, "after", change_json(change)),
            Judgement::LetIn(change) => (&mut let_in, "after", change_json(change)),
            Judgement::NotJudged(why) => (&mut not_judged, "why", json!(why)),
        };
        if let Some(fields) = client.as_object_mut() {
            fields.insert(key.to_owned(), value);
        }
        list.push(client);
    }
    let value = json!({
        "refused": refused,
        "mapped": mapped,
        "let_in": let_in,
        "not_judged": not_judged,
        "same": same,
        "requests": log.requests,
        "undecided": log.undecided,
        "unreadable": log.unreadable,
        "left_out": log.left_out,
    });
    output::write_json(out, &value)
}

fn change_json(change: &Change) -> Value {
    json!({
        "status": change.status,
        "decision": change.decision,
        "verdict": change.verdict,
        "consumer": change.consumer,
        "reason": change.reason,
        "remedy": change.remedy,
    })
}
