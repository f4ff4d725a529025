//! The dialects by name, with their headers and the names that they reserve.

use super::header::{Header, MAX_NUMBERED};
use super::{
    apache, aws_alb, azure, caddy, cloudflare, cloudflare_forwarding, cloudflare_worker,
    cloudfront, gcp, haproxy, kong, nginx, rfc9440, traefik, xfcc, ClientInfo, DialectConfig,
    DialectOptions, ReservedHeaders,
};
use crate::Error;

/// A family of client-certificate headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// See [`rfc9440`].
    Rfc9440,
    /// See [`cloudflare`].
    Cloudflare,
    /// See [`cloudflare_worker`].
    CloudflareWorker,
    /// See [`cloudflare_forwarding`].
    CloudflareForwarding,
    /// See [`xfcc`].
    Xfcc,
    /// See [`nginx`].
    Nginx,
    /// See [`apache`].
    Apache,
    /// See [`haproxy`].
    Haproxy,
    /// See [`traefik`].
    Traefik,
    /// See [`aws_alb`].
    AwsAlb,
    /// See [`cloudfront`].
    CloudFront,
    /// See [`gcp`].
    Gcp,
    /// See [`azure`].
    Azure,
    /// See [`caddy`].
    Caddy,
    /// See [`kong`].
    Kong,
}

impl Dialect {
    /// All dialects, in the order of the documentation.
    pub const ALL: [Dialect; 15] = [
        Dialect::Rfc9440,
        Dialect::Cloudflare,
        Dialect::CloudflareWorker,
        Dialect::CloudflareForwarding,
        Dialect::Xfcc,
        Dialect::Nginx,
        Dialect::Apache,
        Dialect::Haproxy,
        Dialect::Traefik,
        Dialect::AwsAlb,
        Dialect::CloudFront,
        Dialect::Gcp,
        Dialect::Azure,
        Dialect::Caddy,
        Dialect::Kong,
    ];

    /// Its name in a policy and in Lua.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Rfc9440 => "rfc9440",
            Dialect::Cloudflare => "cloudflare",
            Dialect::CloudflareWorker => "cloudflare-worker",
            Dialect::CloudflareForwarding => "cloudflare-forwarding",
            Dialect::Xfcc => "xfcc",
            Dialect::Nginx => "nginx",
            Dialect::Apache => "apache",
            Dialect::Haproxy => "haproxy",
            Dialect::Traefik => "traefik",
            Dialect::AwsAlb => "aws-alb",
            Dialect::CloudFront => "cloudfront",
            Dialect::Gcp => "gcp",
            Dialect::Azure => "azure",
            Dialect::Caddy => "caddy",
            Dialect::Kong => "kong",
        }
    }

    /// The dialect of that name.
    pub fn from_name(name: &str) -> Option<Dialect> {
        Dialect::ALL
            .into_iter()
            .find(|dialect| dialect.name() == name)
    }

    /// Its headers, in the order they are written.
    pub fn headers(self) -> &'static [Header] {
        match self {
            Dialect::Rfc9440 => rfc9440::HEADERS,
            Dialect::Cloudflare => cloudflare::HEADERS,
            Dialect::CloudflareWorker => cloudflare_worker::HEADERS,
            Dialect::CloudflareForwarding => cloudflare_forwarding::HEADERS,
            Dialect::Xfcc => xfcc::HEADERS,
            Dialect::Nginx => nginx::HEADERS,
            Dialect::Apache => apache::HEADERS,
            Dialect::Haproxy => haproxy::HEADERS,
            Dialect::Traefik => traefik::HEADERS,
            Dialect::AwsAlb => aws_alb::HEADERS,
            Dialect::CloudFront => cloudfront::HEADERS,
            Dialect::Gcp => gcp::HEADERS,
            Dialect::Azure => azure::HEADERS,
            Dialect::Caddy => caddy::HEADERS,
            Dialect::Kong => kong::HEADERS,
        }
    }

    /// A prefix of further header names that readers of the dialect trust although the dialect does
    /// not write them. The gateway removes inbound headers with these names too.
    pub fn reserved_prefix(self) -> Option<&'static str> {
        match self {
            Dialect::Cloudflare => Some("Cf-Cert-"),
            Dialect::CloudflareForwarding => Some("Cf-Client-Cert-"),
            Dialect::Nginx => Some("ssl-client-"),
            Dialect::Apache => Some("SSL_CLIENT_"),
            Dialect::Haproxy => Some("X-SSL"),
            Dialect::Traefik => Some("X-Forwarded-Tls-Client-Cert"),
            Dialect::AwsAlb => Some("X-Amzn-Mtls-"),
            Dialect::CloudFront => Some("CloudFront-Viewer-Cert-"),
            Dialect::Rfc9440
            | Dialect::CloudflareWorker
            | Dialect::Xfcc
            | Dialect::Gcp
            | Dialect::Azure
            | Dialect::Caddy
            | Dialect::Kong => None,
        }
    }

    /// Names beyond those of [`Dialect::headers`] and [`Dialect::reserved_prefix`] that readers of
    /// the dialect trust: Tomcat's SSLValve reads all of them together.
    pub fn other_reserved_names(self) -> &'static [&'static str] {
        match self {
            Dialect::Nginx | Dialect::Apache => &[
                "SSL_CIPHER",
                "SSL_CIPHER_USEKEYSIZE",
                "SSL_SECURE_PROTOCOL",
                "SSL_SESSION_ID",
            ],
            _ => &[],
        }
    }

    /// The names that the dialect reserves by default. A reader of one of these headers may fall
    /// back to the others.
    pub fn default_reserved_headers(self) -> ReservedHeaders {
        let names = DialectConfig::new(self, DialectOptions::default()).reserved_names();
        ReservedHeaders::new(
            names.iter().map(String::as_str),
            self.reserved_prefix().into_iter(),
        )
    }

    /// One value, by its key in the dialect, as a header of the dialect would carry it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown key, [`Error::HeaderLeftOut`] for a value that must not
    /// be written into a header.
    pub fn value(
        self,
        key: &str,
        client: &ClientInfo,
        options: &DialectOptions,
    ) -> Result<Option<String>, Error> {
        let (header, index) = self
            .headers()
            .iter()
            .find_map(|header| Some((header, value_index(header, key)?)))
            .ok_or(Error::NotFound)?;
        match header.values(client, options) {
            Ok(values) => Ok(values.into_iter().nth(index)),
            Err(reason) => Err(Error::HeaderLeftOut {
                name: key.to_owned(),
                why: reason.to_string(),
            }),
        }
    }

    /// Whether `<name>-Too-Large: 1` replaces a header that is too large. Google's dialect reports
    /// this in `client_cert_error` instead.
    pub(super) fn has_too_large_headers(self) -> bool {
        self != Dialect::Gcp
    }
}

/// The index of the value of `header` that `key` names: 0 for a header with one value, the number
/// behind the key of a numbered header.
fn value_index(header: &Header, key: &str) -> Option<usize> {
    if !header.is_numbered() {
        return (header.key == key).then_some(0);
    }
    let number = key.strip_prefix(header.key)?;
    let index: usize = number.parse().ok()?;
    // Each number has one spelling: no sign, no leading zeros.
    (index < MAX_NUMBERED && number == index.to_string()).then_some(index)
}
