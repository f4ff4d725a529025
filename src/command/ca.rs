//! `resty-mtls ca`: prints entries of `ca_certificates` for the CAs of bundles.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;

use serde_json::{json, Value};
use sha1::{Digest, Sha1};

use super::arguments::Arguments;
use super::input::{label, now, read_with_progress};
use super::output::{printable, write_json};
use super::progress::Progress;
use super::{Command, Streams, BAD_INPUT, JSON, OK};
use crate::certificate::{bundle, time};
use crate::text::hex;
use crate::trust::{CaCertificate, CaValidity};
use crate::Error;

/// Most CAs of all files.
const MAX_CAS: usize = bundle::MAX_CERTIFICATES;

/// Namespace of the ids (RFC 9562 section 5.5). Another one would change the ids of all CAs.
const NAMESPACE: [u8; 16] = *b"\x2e\x6b\x8d\x15\x0c\x7f\x45\x39\x8a\xd4\x61\xf0\x3b\x92\xe7\x0a";

pub(super) const COMMAND: Command = Command {
    name: "ca",
    operands: "FILE...",
    summary: "print entries of ca_certificates for the CAs of bundles",
    help: "\
Prints a policy with an entry of ca_certificates for each CA in the files: PEM,
DER or PKCS #7; - is standard input. A certificate that is there several times
has one entry. Certificates that are no CA are left out, with a warning.

The id of a CA is derived from its subject and public key, and so is the same on
each run and after a renewal. Further certificates of the same CA have ids that
depend on the certificate too.",
    options: &[JSON],
    statuses: &[
        (OK, "success"),
        (BAD_INPUT, "a file cannot be read, or there is no CA"),
    ],
    run,
};

/// CAs with their ids, each certificate once.
#[derive(Default)]
pub(super) struct CaEntries {
    pub entries: Vec<CaEntry>,
    /// Positions in `entries` by digest of the certificate.
    by_digest: HashMap<[u8; 32], usize>,
    /// Positions in `entries` of the first certificate of each CA.
    by_ca: HashMap<[u8; 32], usize>,
}

/// An entry of `ca_certificates`.
pub(super) struct CaEntry {
    pub id: String,
    pub ca: CaCertificate,
    /// Where it was found.
    place: String,
}

impl CaEntries {
    /// Adds the CAs of a file and returns the positions of their entries. `place` writes where the
    /// certificate of a line is; what is odd goes to `warn`.
    ///
    /// # Errors
    /// What is wrong, after the name of the file.
    pub fn add(
        &mut self,
        bytes: &[u8],
        place: impl Fn(usize) -> String,
        warn: &mut dyn FnMut(String),
    ) -> Result<Vec<usize>, String> {
        let mut positions = Vec::new();
        for bundle::Entry { line, x509 } in bundle::read(bytes)? {
            let place = place(line);
            let ca = match CaCertificate::from_x509(x509) {
                Ok(ca) => ca,
                Err(error @ Error::NotCa(_)) => {
                    let error = printable(error.to_string().as_bytes());
                    warn(format!("{place}: warning: left out: {error}"));
                    continue;
                }
                Err(error) => return Err(error.to_string()),
            };
            if self.entries.len() >= MAX_CAS {
                return Err(format!("over {MAX_CAS} CAs in all files"));
            }
            let position = self.position(ca, place, warn);
            if !positions.contains(&position) {
                positions.push(position);
            }
        }
        Ok(positions)
    }

    fn position(
        &mut self,
        ca: CaCertificate,
        place: String,
        warn: &mut dyn FnMut(String),
    ) -> usize {
        if let Some(position) = self.by_digest.get(ca.digest()) {
            return *position;
        }
        let first = self.by_ca.get(ca.id()).and_then(|at| self.entries.get(*at));
        let id = match first {
            None => uuid(&[ca.id()]),
            Some(CaEntry { place: other, .. }) => {
                warn(format!(
                    "{place}: warning: another certificate of the CA at {other}: it has an id of \
                     its own, and a policy may need both"
                ));
                uuid(&[ca.id(), ca.digest()])
            }
        };
        if ca.validity(now()) != CaValidity::Valid {
            let message = ca.validity_message(now()).unwrap_or_default();
            warn(format!("{place}: warning: {message}"));
        }
        let position = self.entries.len();
        self.by_digest.insert(*ca.digest(), position);
        self.by_ca.entry(*ca.id()).or_insert(position);
        self.entries.push(CaEntry { id, ca, place });
        position
    }

    /// `ca_certificates` in YAML.
    pub fn yaml(&self) -> String {
        let mut text = "ca_certificates:\n".to_owned();
        for entry in &self.entries {
            let subject = printable(entry.ca.subject().as_bytes());
            let until = time::rfc3339(entry.ca.not_after(), "Z");
            let _ = writeln!(text, "# {subject}, until {until}");
            let _ = writeln!(text, "- id: {}\n  cert: |", entry.id);
            for line in entry.pem().lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }
}

impl CaEntry {
    fn pem(&self) -> String {
        let pem = self.ca.x509().to_pem().unwrap_or_default();
        String::from_utf8(pem).unwrap_or_default()
    }
}

/// A UUID, version 5, of the parts, which have fixed lengths.
fn uuid(parts: &[&[u8; 32]]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(NAMESPACE);
    parts.iter().for_each(|part| hasher.update(part));
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(hasher.finalize()) {
        *to = from;
    }
    id[6] = id[6] & 0x0f | 0x50;
    id[8] = id[8] & 0x3f | 0x80;
    let mut text = hex(&id);
    for dash in [20, 16, 12, 8] {
        text.insert(dash, '-');
    }
    text
}

fn run(arguments: &Arguments, streams: &mut Streams) -> io::Result<u8> {
    if arguments.operands.is_empty() {
        let message = "no file, expected one or more, or - for standard input";
        return streams.misuse(COMMAND.name, message);
    }
    let mut progress = Progress::new(COMMAND.name);
    let mut cas = CaEntries::default();
    let mut warnings = Vec::new();
    for file in &arguments.operands {
        let name = label(file);
        let place = |line| match line {
            0 => name.clone(),
            line => format!("{name}:{line}"),
        };
        let bytes = read_with_progress(file, streams, bundle::MAX_FILE, &mut progress);
        let added = bytes.and_then(|bytes| {
            let what = format!("reading the certificates of {name}");
            let added = progress.during(streams.err, &what, || {
                cas.add(&bytes, place, &mut |warning| warnings.push(warning))
            });
            added.map_err(|error| format!("{name}: {error}"))
        });
        for warning in warnings.drain(..) {
            writeln!(streams.err, "{warning}")?;
        }
        if let Err(error) = added {
            writeln!(streams.err, "{error}")?;
            return Ok(BAD_INPUT);
        }
    }
    if cas.entries.is_empty() {
        let message = "no CA in these files, expected certificates with CA:TRUE";
        writeln!(streams.err, "resty-mtls: ca: {message}")?;
        return Ok(BAD_INPUT);
    }
    if arguments.has(JSON.name) {
        let entries = cas.entries.iter();
        let entries = entries.map(|entry| json!({ "id": entry.id, "cert": entry.pem() }));
        let value = json!({
            "_format_version": "3.0",
            "ca_certificates": entries.collect::<Vec<Value>>(),
        });
        write_json(streams.out, &value)?;
    } else {
        let yaml = cas.yaml();
        write!(streams.out, "_format_version: \"3.0\"\n{yaml}")?;
    }
    Ok(OK)
}
