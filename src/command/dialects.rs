//! `resty-mtls dialects`: lists the headers of the dialects of `client-cert-headers`.

use std::ffi::OsString;
use std::io::{self, Write};

use super::{misuse, unknown, OK};
use crate::headers::Dialect;

pub(super) fn run(args: &[OsString], out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    match args {
        [] => list(&Dialect::ALL, out),
        [name] => match name.to_str().and_then(Dialect::from_name) {
            Some(dialect) => list(&[dialect], out),
            None => {
                let names = Dialect::ALL.map(Dialect::name);
                let message = format!("dialects: unknown dialect {}", unknown(name, &names));
                misuse(err, &message)
            }
        },
        args => {
            let message = format!("dialects: {} names, expected one or none", args.len());
            misuse(err, &message)
        }
    }
}

/// Prints one line a header: dialect, key and default name. The name is `-` if the header has none
/// by default; `N` stands for the number of a numbered header.
fn list(dialects: &[Dialect], out: &mut impl Write) -> io::Result<u8> {
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
