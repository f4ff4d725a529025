//! The dialects by name, and a dialect as an operator configured it.

use super::header::{Header, Rendered, MAX_NUMBERED};
use super::{
    apache, aws_alb, azure, caddy, cloudflare, cloudflare_forwarding, cloudflare_worker,
    cloudfront, gcp, haproxy, kong, nginx, rfc9440, traefik, xfcc, Facts, LeftOut, Options,
    OwnedNames,
};
use crate::Error;

/// Put behind the name of a header that is left out for its size.
pub const TOO_LARGE: &str = "-Too-Large";

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
    /// All of them, in the order of the documentation.
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

    /// The name in a policy and in Lua.
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

    /// What the names of further headers begin with that readers of the dialect believe although
    /// nothing here writes them; the gateway must let none of them in either.
    pub fn prefix(self) -> Option<&'static str> {
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

    /// Names beyond those of [`Dialect::headers`] and [`Dialect::prefix`] that a reader of the dialect
    /// believes too: Tomcat's SSLValve takes all of them from one place.
    pub fn beside(self) -> &'static [&'static str] {
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

    /// The names that its headers have by default or by its prefix: what reads one of them may read
    /// the others too, and fall back to them.
    pub fn default_names(self) -> OwnedNames {
        let names = Selection::new(self, Options::default()).owned_names();
        OwnedNames::new(names.iter().map(String::as_str), self.prefix().into_iter())
    }

    /// One value by the dialect's own word for it, as a header of the dialect would carry it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown word, [`Error::HeaderLeftOut`] for a value that no
    /// header may carry.
    pub fn value(
        self,
        key: &str,
        facts: &Facts,
        options: &Options,
    ) -> Result<Option<String>, Error> {
        let (header, place) = self
            .headers()
            .iter()
            .find_map(|header| Some((header, place(header, key)?)))
            .ok_or(Error::NotFound)?;
        match header.values(facts, options) {
            Ok(values) => Ok(values.into_iter().nth(place)),
            Err(why) => Err(Error::HeaderLeftOut {
                name: key.to_owned(),
                why: why.to_string(),
            }),
        }
    }

    /// Whether a header that is too large leaves `<name>-Too-Large: 1` in its place.
    fn marks_too_large(self) -> bool {
        // Says it in `client_cert_error`.
        self != Dialect::Gcp
    }
}

/// Which of the values of `header` the key means.
fn place(header: &Header, key: &str) -> Option<usize> {
    if !header.is_numbered() {
        return (header.key == key).then_some(0);
    }
    let number = key.strip_prefix(header.key)?;
    let place: usize = number.parse().ok()?;
    // One spelling a number: no sign, no zeros in front.
    (place < MAX_NUMBERED && number == place.to_string()).then_some(place)
}

/// A dialect as an operator configured it for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The dialect.
    pub dialect: Dialect,
    /// How it is written.
    pub options: Options,
    /// Names in the order of [`Dialect::headers`]; `None` is not written.
    names: Box<[Option<Box<str>>]>,
}

/// The header lines for one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Names and values, in the order they are written.
    pub set: Vec<(Box<str>, String)>,
    /// Names that are not set, and why: to be counted and logged.
    pub left_out: Vec<(Box<str>, LeftOut)>,
    /// First second at which they are others, if they ever are.
    pub until: Option<i64>,
}

impl Selection {
    /// The dialect under its default names.
    pub fn new(dialect: Dialect, options: Options) -> Selection {
        let names = dialect
            .headers()
            .iter()
            .map(|header| header.name.map(Box::from))
            .collect();
        Selection {
            dialect,
            options,
            names,
        }
    }

    /// The dialect with every header switched off.
    pub fn none(dialect: Dialect, options: Options) -> Selection {
        Selection {
            dialect,
            options,
            names: dialect.headers().iter().map(|_| None).collect(),
        }
    }

    /// Gives the header with this key, or with this default name without regard to case, another
    /// name, or switches it off with `None`. `name` is a token of RFC 9110.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the dialect has no such header.
    pub fn rename(&mut self, header: &str, name: Option<&str>) -> Result<(), Error> {
        let is_it = |candidate: &Header| {
            candidate.key == header
                || candidate
                    .name
                    .is_some_and(|name| name.eq_ignore_ascii_case(header))
        };
        let place = self
            .dialect
            .headers()
            .iter()
            .position(is_it)
            .ok_or(Error::NotFound)?;
        if let Some(slot) = self.names.get_mut(place) {
            *slot = name.map(Box::from);
        }
        Ok(())
    }

    /// Headers with the names they are written under.
    fn named(&self) -> impl Iterator<Item = (&'static Header, &str)> {
        let named = self.dialect.headers().iter().zip(&self.names);
        named
            .filter(|(header, _)| header.is_of(self.options.mode))
            .filter_map(|(header, name)| Some((header, name.as_deref()?)))
    }

    /// The names that its headers have.
    pub fn own_names(&self) -> impl Iterator<Item = &str> {
        self.named().map(|(_, name)| name)
    }

    /// Every name that may be written, to tell whether two headers would share one.
    pub fn names(&self) -> Vec<String> {
        self.named()
            .flat_map(|(header, name)| self.all_names(header, name))
            .collect()
    }

    /// Every name that only the gateway may set: those it writes, and the default names of those
    /// that are renamed or switched off. [`Dialect::prefix`] comes on top.
    pub fn owned_names(&self) -> Vec<String> {
        let headers = self.dialect.headers().iter();
        let default = headers.filter_map(|header| Some((header, header.name?)));
        let mut names: Vec<_> = default
            .chain(self.named())
            .flat_map(|(header, name)| self.all_names(header, name))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What further names begin with that only the gateway may set: those of numbered headers, as a
    /// reader goes on counting. [`Dialect::prefix`] comes on top.
    pub fn owned_prefixes(&self) -> Vec<&str> {
        self.named()
            .filter(|(header, _)| header.is_numbered())
            .map(|(_, name)| name)
            .collect()
    }

    fn all_names(&self, header: &Header, name: &str) -> Vec<String> {
        let mut names = if header.is_numbered() {
            (0..MAX_NUMBERED)
                .map(|place| format!("{name}{place}"))
                .collect()
        } else {
            vec![name.to_owned()]
        };
        if self.dialect.marks_too_large() {
            names.push(too_large(header, name));
        }
        names
    }

    /// The header lines for this client. [`Dialect::Xfcc`] and [`Dialect::CloudflareForwarding`]
    /// also depend on the request: see [`xfcc::forward`] and
    /// [`cloudflare_forwarding::Options::forwards`].
    pub fn lines(&self, facts: &Facts) -> Lines {
        let mut lines = Lines::default();
        let mut written = Vec::new();
        for (header, name) in self.named() {
            if header.beside.is_some_and(|key| !written.contains(&key)) {
                continue;
            }
            let until = header.until(facts);
            lines.until = lines.until.into_iter().chain(until).min();
            match header.values(facts, &self.options) {
                Ok(values) => {
                    if !values.is_empty() {
                        written.push(header.key);
                        let parts = header.left_out_parts(facts, &self.options);
                        let parts = parts.into_iter();
                        lines.left_out.extend(
                            parts.map(|(part, why)| (format!("{name}: {part}").into(), why)),
                        );
                    }
                    for (place, value) in values.into_iter().enumerate() {
                        let name = if header.is_numbered() {
                            format!("{name}{place}").into()
                        } else {
                            name.into()
                        };
                        lines.set.push((name, value));
                    }
                }
                Err(why) => {
                    if why.is_too_large() && self.dialect.marks_too_large() {
                        let marker = too_large(header, name);
                        lines.set.push((marker.into(), "1".to_owned()));
                    }
                    lines.left_out.push((name.into(), why));
                }
            }
        }
        lines
    }
}

/// access.lua puts [`TOO_LARGE`] behind the name of `xfcc`, which is not numbered.
fn too_large(header: &Header, name: &str) -> String {
    let name = match header.is_numbered() {
        true => name.trim_end_matches('_'),
        false => name,
    };
    format!("{name}{TOO_LARGE}")
}

/// A value of a dialect that says `1` or `0`.
pub(super) fn flag(set: bool) -> Rendered {
    Ok(Some(if set { "1" } else { "0" }.to_owned()))
}
