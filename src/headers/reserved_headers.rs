//! Reserved headers: request headers that only the gateway may set. Inbound copies are removed in
//! every spelling that an upstream could take for the same name.

use std::collections::HashSet;

use foldhash::fast::RandomState;

/// Names of this length or more are not reserved, except by a prefix.
const MAX_NAME: usize = 128;

/// The reserved header names of a policy, folded.
///
/// CGI, FastCGI, WSGI and similar interfaces replace every character of a header name that is not a
/// letter or digit, so an application cannot distinguish `X_Client.Cert` from `X-Client-Cert`.
/// Names that are equal after this replacement and in lower case count as the same name.
#[derive(Clone, Debug)]
pub struct ReservedHeaders {
    names: HashSet<Box<[u8]>, RandomState>,
    /// The first characters of the names of each length, as in [`initial`].
    initials: [u32; MAX_NAME],
    /// Prefixes of further reserved names.
    prefixes: Vec<Box<[u8]>>,
    /// The first characters of the prefixes.
    prefix_initials: u32,
}

impl Default for ReservedHeaders {
    fn default() -> ReservedHeaders {
        ReservedHeaders {
            names: HashSet::default(),
            initials: [0; MAX_NAME],
            prefixes: Vec::new(),
            prefix_initials: 0,
        }
    }
}

impl ReservedHeaders {
    /// Reserves `names`, and all names that begin with one of `prefixes`. A policy has no names of
    /// over 127 bytes; such names are ignored.
    pub fn new<'a>(
        names: impl Iterator<Item = &'a str>,
        prefixes: impl Iterator<Item = &'a str>,
    ) -> ReservedHeaders {
        let mut reserved = ReservedHeaders::default();
        for prefix in prefixes {
            let mut buffer = [0; MAX_NAME];
            if let Some(folded) = fold(prefix.as_bytes(), &mut buffer) {
                reserved.prefix_initials |= initial(folded);
                reserved.prefixes.push(folded.into());
            }
        }
        for name in names {
            let mut buffer = [0; MAX_NAME];
            if let Some(folded) = fold(name.as_bytes(), &mut buffer) {
                if let Some(initials) = reserved.initials.get_mut(folded.len()) {
                    *initials |= initial(folded);
                    reserved.names.insert(folded.into());
                }
            }
        }
        reserved
    }

    /// Whether a header of this name is reserved.
    pub fn contains(&self, name: &[u8]) -> bool {
        // Most names end here.
        let initials = self.initials.get(name.len()).copied().unwrap_or(0);
        (initials | self.prefix_initials) & initial(name) != 0 && self.contains_folded(name)
    }

    fn contains_folded(&self, name: &[u8]) -> bool {
        let mut buffer = [0; MAX_NAME];
        let start = name.get(..MAX_NAME - 1).unwrap_or(name);
        fold(start, &mut buffer).is_some_and(|folded| {
            (name.len() < MAX_NAME && self.names.contains(folded))
                || self
                    .prefixes
                    .iter()
                    .any(|prefix| folded.starts_with(prefix))
        })
    }

    /// Whether an inbound header must be removed: because its name is reserved, or because it is a
    /// `Connection` header with a reserved name as an option (RFC 9110 section 7.6.1), which would
    /// make an upstream drop the header of the gateway.
    pub fn must_remove(&self, name: &[u8], value: &[u8]) -> bool {
        self.contains(name)
            || (name.eq_ignore_ascii_case(b"connection")
                && value
                    // Readers trim more than HTTP's white space, so every byte that no token may
                    // contain ends an option.
                    .split(|byte| !is_token_byte(*byte))
                    .any(|option| self.contains(option)))
    }

    /// Whether no name is reserved.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.prefixes.is_empty()
    }
}

/// The bit of the first character of a name: bit n for letter n of the alphabet, bit 26 for another
/// character.
fn initial(name: &[u8]) -> u32 {
    match name.first() {
        Some(byte) if byte.is_ascii_alphabetic() => 1 << (byte.to_ascii_lowercase() - b'a'),
        Some(_) => 1 << 26,
        None => 0,
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn fold<'a>(name: &[u8], buffer: &'a mut [u8; MAX_NAME]) -> Option<&'a [u8]> {
    if name.len() >= MAX_NAME {
        return None;
    }
    let folded = buffer.get_mut(..name.len())?;
    for (to, from) in folded.iter_mut().zip(name) {
        *to = if from.is_ascii_alphanumeric() {
            from.to_ascii_lowercase()
        } else {
            b'-'
        };
    }
    Some(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved() -> ReservedHeaders {
        ReservedHeaders::new(
            ["X-Client-Cert", "X-Client-Cert-Subject-DN"].into_iter(),
            ["SSL_CLIENT_", "Cf-Cert-"].into_iter(),
        )
    }

    #[test]
    fn contains_every_spelling_of_a_reserved_name() {
        for name in [
            "X-Client-Cert",
            "x-client-cert",
            "X_CLIENT_CERT",
            "x-Client_cert",
            "x.client cert",
            "X_Client-Cert_Subject.dn",
            "ssl-client-anything",
            "Ssl.Client_",
            "CF_CERT_x",
        ] {
            assert!(reserved().contains(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn contains_no_other_name() {
        for name in [
            "",
            "X-Client-Cer",
            "X-Client-Cert1",
            "X-Client-Certs",
            "XClientCert",
            "SSL_CLIENT",
            "Cf-Certificate",
            "c",
        ] {
            assert!(!reserved().contains(name.as_bytes()), "{name}");
        }
        assert!(!reserved().contains(&[b'x'; 4096]));
        assert!(!reserved().contains(&[b's'; 4096]));
    }

    #[test]
    fn contains_long_names_by_prefix() {
        let name = format!("ssl-client-{}", "x".repeat(4096));
        assert!(reserved().contains(name.as_bytes()));
        let name = format!("x-client-cert{}", "-".repeat(4096));
        assert!(!reserved().contains(name.as_bytes()));
    }

    #[test]
    fn must_remove_finds_options_of_connection() {
        for value in [
            "X-Client-Cert",
            "close, x_client_cert",
            "keep-alive ,\tCf-Cert-Serial",
            "close,\x0bX-Client-Cert",
            "close;X-Client-Cert\u{a0}",
        ] {
            assert!(
                reserved().must_remove(b"Connection", value.as_bytes()),
                "{value}"
            );
            assert!(
                !reserved().must_remove(b"X-Other", value.as_bytes()),
                "{value}"
            );
        }
        for value in ["", "close", "keep-alive, Upgrade", "X-Client-Certs"] {
            assert!(
                !reserved().must_remove(b"connection", value.as_bytes()),
                "{value}"
            );
        }
        assert!(reserved().must_remove(b"X-Client-Cert", b""));
    }
}
