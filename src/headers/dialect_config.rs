//! A dialect as a route uses it: its options and the names of its headers.

use super::header::{Header, MAX_NUMBERED};
use super::{ClientInfo, Dialect, DialectOptions, LeftOutReason};
use crate::Error;

/// Suffix of the header that replaces one that is left out because it is too large.
pub const TOO_LARGE_SUFFIX: &str = "-Too-Large";

/// A dialect as an operator configured it for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialectConfig {
    /// The dialect.
    pub dialect: Dialect,
    /// Its options.
    pub options: DialectOptions,
    /// Header names in the order of [`Dialect::headers`]; `None` for a header that is not written.
    names: Box<[Option<Box<str>>]>,
}

/// The header lines of one dialect for one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderedHeaders {
    /// Names and values, in the order they are written.
    pub lines: Vec<(Box<str>, String)>,
    /// Names of headers that are left out, and the reasons, to be counted and logged.
    pub left_out: Vec<(Box<str>, LeftOutReason)>,
    /// The first second at which a value changes by itself, if any does.
    pub changes_at: Option<i64>,
}

impl DialectConfig {
    /// The dialect with its default header names.
    pub fn new(dialect: Dialect, options: DialectOptions) -> DialectConfig {
        let names = dialect
            .headers()
            .iter()
            .map(|header| header.name.map(Box::from))
            .collect();
        DialectConfig {
            dialect,
            options,
            names,
        }
    }

    /// The dialect with every header switched off.
    pub fn without_headers(dialect: Dialect, options: DialectOptions) -> DialectConfig {
        DialectConfig {
            dialect,
            options,
            names: dialect.headers().iter().map(|_| None).collect(),
        }
    }

    /// Renames a header, or switches it off with `None`. `header` is a key of the dialect or,
    /// ignoring case, a default name; `name` is a token of RFC 9110.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the dialect has no such header.
    pub fn rename(&mut self, header: &str, name: Option<&str>) -> Result<(), Error> {
        let matches = |candidate: &Header| {
            candidate.key == header
                || candidate
                    .name
                    .is_some_and(|name| name.eq_ignore_ascii_case(header))
        };
        let index = self
            .dialect
            .headers()
            .iter()
            .position(matches)
            .ok_or(Error::NotFound)?;
        if let Some(slot) = self.names.get_mut(index) {
            *slot = name.map(Box::from);
        }
        Ok(())
    }

    /// The headers that are written in this mode, with their names.
    fn named_headers(&self) -> impl Iterator<Item = (&'static Header, &str)> {
        let headers = self.dialect.headers().iter().zip(&self.names);
        headers
            .filter(|(header, _)| header.exists_in(self.options.mode))
            .filter_map(|(header, name)| Some((header, name.as_deref()?)))
    }

    /// The configured header names, without the numbers of numbered headers.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        self.named_headers().map(|(_, name)| name)
    }

    /// Every name that may be written, with numbers and suffixes. A policy compares these to find
    /// two headers with one name.
    pub fn possible_names(&self) -> Vec<String> {
        self.named_headers()
            .flat_map(|(header, name)| self.expand(header, name))
            .collect()
    }

    /// Every name that only the gateway may set: the names that it writes, and the default names of
    /// headers that are renamed or switched off. [`Dialect::reserved_prefix`] is not included.
    pub fn reserved_names(&self) -> Vec<String> {
        let headers = self.dialect.headers().iter();
        let default = headers.filter_map(|header| Some((header, header.name?)));
        let mut names: Vec<_> = default
            .chain(self.named_headers())
            .flat_map(|(header, name)| self.expand(header, name))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Prefixes of further names that only the gateway may set: the names of numbered headers,
    /// because a reader continues to count. [`Dialect::reserved_prefix`] is not included.
    pub fn reserved_prefixes(&self) -> Vec<&str> {
        self.named_headers()
            .filter(|(header, _)| header.is_numbered())
            .map(|(_, name)| name)
            .collect()
    }

    fn expand(&self, header: &Header, name: &str) -> Vec<String> {
        let mut names = if header.is_numbered() {
            (0..MAX_NUMBERED)
                .map(|number| format!("{name}{number}"))
                .collect()
        } else {
            vec![name.to_owned()]
        };
        if self.dialect.has_too_large_headers() {
            names.push(too_large_name(header, name));
        }
        names
    }

    /// The header lines for this client. [`Dialect::Xfcc`] and [`Dialect::CloudflareForwarding`]
    /// also depend on the request: see [`super::xfcc::forward`] and
    /// [`super::cloudflare_forwarding::ForwardingOptions::forwards`].
    pub fn render(&self, client: &ClientInfo) -> RenderedHeaders {
        let mut rendered = RenderedHeaders::default();
        let mut written = Vec::new();
        for (header, name) in self.named_headers() {
            if header.requires.is_some_and(|key| !written.contains(&key)) {
                continue;
            }
            let changes_at = header.changes_at(client);
            rendered.changes_at = rendered.changes_at.into_iter().chain(changes_at).min();
            match header.values(client, &self.options) {
                Ok(values) => {
                    if !values.is_empty() {
                        written.push(header.key);
                        let parts = header.left_out_parts(client, &self.options);
                        let parts = parts.into_iter();
                        rendered.left_out.extend(
                            parts.map(|(part, reason)| (format!("{name}: {part}").into(), reason)),
                        );
                    }
                    for (number, value) in values.into_iter().enumerate() {
                        let name = if header.is_numbered() {
                            format!("{name}{number}").into()
                        } else {
                            name.into()
                        };
                        rendered.lines.push((name, value));
                    }
                }
                Err(reason) => {
                    if reason.is_too_large() && self.dialect.has_too_large_headers() {
                        let name = too_large_name(header, name);
                        rendered.lines.push((name.into(), "1".to_owned()));
                    }
                    rendered.left_out.push((name.into(), reason));
                }
            }
        }
        rendered
    }
}

/// The Lua module `access` builds this name for `xfcc` too, by appending [`TOO_LARGE_SUFFIX`].
fn too_large_name(header: &Header, name: &str) -> String {
    let name = match header.is_numbered() {
        true => name.trim_end_matches('_'),
        false => name,
    };
    format!("{name}{TOO_LARGE_SUFFIX}")
}
