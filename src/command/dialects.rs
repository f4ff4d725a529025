//! `resty-mtls dialects`: lists the headers of the dialects of `client-cert-headers`.

use std::ffi::OsStr;
use std::io::{self, Write};

use serde_json::json;

use super::arguments::Arguments;
use super::output::write_json;
use super::{unknown, Command, Streams, JSON, OK};
use crate::headers::Dialect;

pub(super) const COMMAND: Command = Command {
    name: "dialects",
    operands: "[NAME]",
    summary: "list the headers that the dialects of client-cert-headers write",
    help: "\
Lists the headers that the dialects of the plugin client-cert-headers write, or
those of the dialect NAME. Each line has the dialect, the key of the header and
its default name, separated by tabs; - stands for a header that has no default
name, and a final N for a number.",
    options: &[JSON],
    statuses: &[(OK, "success")],
    run,
};

fn run(arguments: &Arguments, streams: &mut Streams) -> io::Result<u8> {
    let dialects = match arguments.operands.as_slice() {
        [] => Dialect::ALL.to_vec(),
        [name] => match parse_dialect(name) {
            Ok(dialect) => vec![dialect],
            Err(message) => return streams.misuse(COMMAND.name, &message),
        },
        names => {
            let message = format!("{} names, expected one or none", names.len());
            return streams.misuse(COMMAND.name, &message);
        }
    };
    match arguments.has(JSON.name) {
        true => list_json(&dialects, streams.out),
        false => list(&dialects, streams.out),
    }
}

/// The dialect of this name, or what is wrong with it.
pub(super) fn parse_dialect(name: &OsStr) -> Result<Dialect, String> {
    let dialect = name.to_str().and_then(Dialect::from_name);
    dialect.ok_or_else(|| {
        let names = Dialect::ALL.map(Dialect::name);
        format!("unknown dialect {}", unknown(name, &names))
    })
}

/// An array of `{dialect, key, numbered, name}`; `name` is null if the header has none by default.
fn list_json(dialects: &[Dialect], out: &mut dyn Write) -> io::Result<u8> {
    let headers: Vec<_> = dialects
        .iter()
        .flat_map(|dialect| {
            dialect
                .headers()
                .iter()
                .map(move |header| (dialect, header))
        })
        .map(|(dialect, header)| {
            json!({
                "dialect": dialect.name(),
                "key": header.key,
                "numbered": header.is_numbered(),
                "name": header.name,
            })
        })
        .collect();
    write_json(out, &headers.into())?;
    Ok(OK)
}

/// Prints one line a header: dialect, key and default name. The name is `-` if the header has none
/// by default; `N` stands for the number of a numbered header.
fn list(dialects: &[Dialect], out: &mut dyn Write) -> io::Result<u8> {
    for dialect in dialects {
        for header in dialect.headers() {
            let number = if header.is_numbered() { "N" } else { "" };
            let (dialect, key) = (dialect.name(), header.key);
            let name = header.name.unwrap_or("-");
            writeln!(out, "{dialect}\t{key}{number}\t{name}{number}")?;
        }
    }
    Ok(OK)
}
