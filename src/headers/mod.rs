//! Certificate -> header lines. One file per dialect.

pub mod apache;
pub mod aws_alb;
pub mod azure;
pub mod caddy;
pub mod cloudflare;
pub mod cloudflare_forwarding;
pub mod cloudflare_worker;
pub mod cloudfront;
mod common;
mod dialect;
mod facts;
pub mod gcp;
pub mod haproxy;
mod header;
pub mod kong;
mod left_out;
pub mod names;
pub mod nginx;
mod options;
pub mod rfc9440;
#[cfg(test)]
mod tests;
pub mod traefik;
pub mod xfcc;

pub use dialect::{Dialect, Lines, Selection};
pub use facts::{Facts, Verified};
pub use header::{Header, MAX_NUMBERED};
pub use left_out::LeftOut;
pub use names::OwnedNames;
pub use options::{Mode, Options, When};

use std::sync::OnceLock;

use crate::certificate::{san, Certificate};
use crate::Error;

/// Longest header value that is written, in bytes. A longer one is left out, never truncated:
/// upstreams commonly take 8 to 64 KB of headers in all.
pub const MAX_VALUE: usize = 16 * 1024;

/// What a header line says about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The leaf in PEM, percent-encoded, as nginx's `$ssl_client_escaped_cert`.
    LeafPemEscaped,
    /// Leaf and intermediates in PEM, leaf first, percent-encoded as one text.
    ChainPemEscaped,
    /// As nginx's `$ssl_client_serial`, on one line always.
    Serial,
    /// As nginx's `$ssl_client_i_dn`.
    IssuerDn,
    /// As nginx's `$ssl_client_s_dn`.
    SubjectDn,
    /// As nginx's `$ssl_client_fingerprint`.
    Sha1,
    /// Subject alternative names, see [`san::text`].
    San,
}

/// One header line: a name of the operator's choice and what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Header name, a token of RFC 9110.
    pub name: Box<str>,
    /// What the line says.
    pub value: Value,
}

impl Line {
    /// The value of this line for `certificate`; `None` when the certificate has no such thing.
    ///
    /// # Errors
    /// [`Error::HeaderLeftOut`] when there is a value that a header must not carry: over
    /// [`MAX_VALUE`], not visible ASCII and spaces, or unreadable in the certificate.
    pub fn render(&self, certificate: &Certificate) -> Result<Option<String>, Error> {
        let left_out = |why: String| Error::HeaderLeftOut {
            name: self.name.to_string(),
            why,
        };
        let value = match self.value {
            Value::LeafPemEscaped => certificate.pem().map(|pem| kong::escape(&pem)),
            Value::ChainPemEscaped => certificate.chain_pem().map(|pem| kong::escape(&pem)),
            Value::Serial => Ok(certificate.serial()),
            Value::IssuerDn => certificate.issuer_dn(),
            Value::SubjectDn => certificate.subject_dn(),
            Value::Sha1 => certificate.fingerprint_sha1(),
            Value::San => Ok(san::text(certificate.san())),
        }
        .map_err(|error| left_out(error.to_string()))?;

        if value.is_empty() {
            return Ok(None);
        }
        if value.len() > MAX_VALUE {
            let why = format!("{} bytes are over the limit of {MAX_VALUE}", value.len());
            return Err(left_out(why));
        }
        if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(left_out("the value is not printable ASCII".to_owned()));
        }
        Ok(Some(value))
    }
}

/// The lines of a dialect under their default names.
///
/// # Errors
/// When there is no such dialect.
pub fn dialect(name: &str) -> Result<&'static [Line], Error> {
    static KONG: OnceLock<Vec<Line>> = OnceLock::new();
    match name {
        "kong" => Ok(KONG.get_or_init(kong::lines)),
        _ => Err(Error::Misuse(format!(
            "unknown dialect '{name}', expected 'kong'"
        ))),
    }
}
