//! `resty-mtls import-ingress`: turns the client authentication of ingress-nginx into a policy and
//! server blocks.

mod convert;
mod manifests;
mod print;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use self::convert::Import;
use self::manifests::Manifests;
use super::arguments::{Arguments, Opt};
use super::input::{label, read_with_progress};
use super::progress::Progress;
use super::{escaped, Command, Streams, BAD_INPUT, OK, REFUSED};

/// Longest file, in bytes.
const MAX_FILE: usize = 32 << 20;
/// Most files.
const MAX_FILES: usize = 1000;

const OUT: &str = "--out";

pub(super) const COMMAND: Command = Command {
    name: "import-ingress",
    operands: "FILE...",
    summary: "turn ingress-nginx's client authentication into a policy",
    help: "\
Reads Ingresses and Secrets of Kubernetes from FILE (YAML or JSON, as kubectl
prints them; - is standard input) and turns ingress-nginx's annotations
auth-tls-secret, -verify-client, -verify-depth, -match-cn, -error-page and
-pass-certificate-to-upstream into a policy and server blocks for nginx: a route
and a server for each host that has them. Both are printed with a line '---'
between them.

What is not carried over, or in another way, goes to standard error, a line
each. Where that could let in more clients, the whole host is left out.",
    options: &[Opt::with_value(
        OUT,
        "DIR",
        "write policy.yaml, servers.conf and files of CRLs into DIR, which\n\
         must have none of them",
    )],
    statuses: &[
        (OK, "success"),
        (
            BAD_INPUT,
            "a file cannot be read or written, or no host is left",
        ),
        (REFUSED, "not all is carried over as it was"),
    ],
    run,
};

fn run(arguments: &Arguments, streams: &mut Streams) -> io::Result<u8> {
    let files = arguments.operands.as_slice();
    match files.len() {
        0 => {
            let message = "no file, expected one or more, or - for standard input";
            return streams.misuse(COMMAND.name, message);
        }
        1..=MAX_FILES => {}
        count => {
            let message = format!("{count} files, expected at most {MAX_FILES}");
            return streams.misuse(COMMAND.name, &message);
        }
    }
    let mut progress = Progress::new(COMMAND.name);
    let mut manifests = Manifests::default();
    let mut is_good = true;
    for file in files {
        if let Err(errors) = add(&mut manifests, file, streams, &mut progress) {
            is_good = false;
            for error in errors {
                writeln!(streams.err, "{error}")?;
            }
        }
    }
    if !is_good {
        return Ok(BAD_INPUT);
    }
    let import = progress.during(streams.err, "converting the Ingresses", || {
        Import::of(&manifests)
    });
    for note in &import.notes {
        writeln!(streams.err, "{note}")?;
    }
    if import.hosts.is_empty() {
        let message = "no host with 'auth-tls-secret' to import";
        writeln!(streams.err, "resty-mtls: import-ingress: {message}")?;
        return Ok(BAD_INPUT);
    }
    let written = match arguments.value(OUT) {
        Some(directory) => write_files(&import, Path::new(directory)),
        None if import.crls.is_empty() => {
            let (policy, servers) = (print::policy(&import), print::servers(&import));
            write!(streams.out, "{policy}---\n{servers}")?;
            Ok(())
        }
        None => Err("a Secret has 'ca.crl', which must be a file: expected --out DIR".to_owned()),
    };
    if let Err(error) = written {
        writeln!(streams.err, "resty-mtls: import-ingress: {error}")?;
        return Ok(BAD_INPUT);
    }
    Ok(if import.notes.is_empty() { OK } else { REFUSED })
}

fn add(
    manifests: &mut Manifests,
    file: &OsStr,
    streams: &mut Streams,
    progress: &mut Progress,
) -> Result<(), Vec<String>> {
    let name = label(file);
    let bytes = read_with_progress(file, streams, MAX_FILE, progress);
    let bytes = bytes.map_err(|error| vec![error])?;
    let text = String::from_utf8(bytes).map_err(|_| vec![format!("{name}: not UTF-8")])?;
    let what = format!("reading the resources of {name}");
    progress.during(streams.err, &what, || {
        manifests.add(&name, text.trim_start_matches('\u{feff}'))
    })
}

/// Writes the files, of which none may be there.
fn write_files(import: &Import, directory: &Path) -> Result<(), String> {
    let failed = |path: &Path, error: io::Error| {
        let path = escaped(path.as_os_str());
        format!("{path}: cannot be written: {error}")
    };
    fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let (policy, servers) = (print::policy(import), print::servers(import));
    let crls = import
        .crls
        .iter()
        .map(|(name, crls)| (name.as_str(), crls.as_slice()));
    let files = [
        ("policy.yaml", policy.as_bytes()),
        ("servers.conf", servers.as_bytes()),
    ];
    for (name, content) in files.into_iter().chain(crls) {
        let path = directory.join(name);
        let file = fs::File::create_new(&path);
        file.and_then(|mut file| io::Write::write_all(&mut file, content))
            .map_err(|error| failed(&path, error))?;
    }
    Ok(())
}
