//! Which inbound header names must go: every spelling of every name this policy sets.

use std::collections::HashSet;

use foldhash::fast::RandomState;

/// Longest header name compared; longer ones cannot be ours.
const MAX_NAME: usize = 128;

/// The names that only the gateway may set, folded.
///
/// CGI, FastCGI, WSGI and their kin turn a header name into a variable name by replacing what is
/// not a letter or digit, so `X_Client.Cert` reaches an application as `X-Client-Cert` does. Names
/// that are equal after that replacement and after folding case are one name here.
#[derive(Clone, Debug, Default)]
pub struct ReservedHeaders {
    names: HashSet<Box<[u8]>, RandomState>,
    /// Bit n: some name is n bytes long.
    lengths: u128,
    /// What further names begin with.
    prefixes: Vec<Box<[u8]>>,
    /// Bit n: some prefix begins with letter n of the alphabet; bit 26: with no letter.
    initials: u32,
}

impl ReservedHeaders {
    /// Folds `names`, and `prefixes` of names. Names of over 127 bytes
    /// are not allowed in a policy and are ignored.
    pub fn new<'a>(
        names: impl Iterator<Item = &'a str>,
        prefixes: impl Iterator<Item = &'a str>,
    ) -> ReservedHeaders {
        let mut owned = ReservedHeaders::default();
        for prefix in prefixes {
            let mut buffer = [0; MAX_NAME];
            if let Some(folded) = fold(prefix.as_bytes(), &mut buffer) {
                owned.initials |= initial(folded);
                owned.prefixes.push(folded.into());
            }
        }
        for name in names {
            let mut buffer = [0; MAX_NAME];
            if let Some(folded) = fold(name.as_bytes(), &mut buffer) {
                owned.lengths |= 1 << folded.len();
                owned.names.insert(folded.into());
            }
        }
        owned
    }

    /// Whether an inbound header of this name must be removed.
    pub fn contains(&self, name: &[u8]) -> bool {
        let by_prefix = self.initials & initial(name) != 0;
        let by_name = name.len() < MAX_NAME && self.lengths & (1 << name.len()) != 0;
        if !by_prefix && !by_name {
            return false;
        }
        let mut buffer = [0; MAX_NAME];
        let start = name.get(..MAX_NAME - 1).unwrap_or(name);
        fold(start, &mut buffer).is_some_and(|folded| {
            (by_name && self.names.contains(folded))
                || self
                    .prefixes
                    .iter()
                    .any(|prefix| folded.starts_with(prefix))
        })
    }

    /// Whether an inbound header must be removed: for its name, or because it is a `Connection`
    /// that declares one of the names to end at the next hop (RFC 9110 section 7.6.1), so that an
    /// upstream would drop what the gateway sets.
    pub fn must_remove(&self, name: &[u8], value: &[u8]) -> bool {
        self.contains(name)
            || (name.eq_ignore_ascii_case(b"connection")
                && value
                    // Readers trim more than HTTP's white space: what is no part of a token ends it.
                    .split(|byte| !is_token(*byte))
                    .any(|option| self.contains(option)))
    }

    /// Whether no name is owned.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.prefixes.is_empty()
    }
}

/// The bit of the letter that a name begins with.
fn initial(name: &[u8]) -> u32 {
    match name.first() {
        Some(byte) if byte.is_ascii_alphabetic() => 1 << (byte.to_ascii_lowercase() - b'a'),
        Some(_) => 1 << 26,
        None => 0,
    }
}

/// tchar of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
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

    fn owned() -> ReservedHeaders {
        ReservedHeaders::new(
            ["X-Client-Cert", "X-Client-Cert-Subject-DN"].into_iter(),
            ["SSL_CLIENT_", "Cf-Cert-"].into_iter(),
        )
    }

    #[test]
    fn contains_every_spelling() {
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
            assert!(owned().contains(name.as_bytes()), "{name}");
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
            assert!(!owned().contains(name.as_bytes()), "{name}");
        }
        assert!(!owned().contains(&[b'x'; 4096]));
        assert!(!owned().contains(&[b's'; 4096]));
    }

    #[test]
    fn contains_long_names_by_prefix() {
        let name = format!("ssl-client-{}", "x".repeat(4096));
        assert!(owned().contains(name.as_bytes()));
        let name = format!("x-client-cert{}", "-".repeat(4096));
        assert!(!owned().contains(name.as_bytes()));
    }

    #[test]
    fn is_forged_finds_options_of_connection() {
        for value in [
            "X-Client-Cert",
            "close, x_client_cert",
            "keep-alive ,\tCf-Cert-Serial",
            "close,\x0bX-Client-Cert",
            "close;X-Client-Cert\u{a0}",
        ] {
            assert!(
                owned().must_remove(b"Connection", value.as_bytes()),
                "{value}"
            );
            assert!(
                !owned().must_remove(b"X-Other", value.as_bytes()),
                "{value}"
            );
        }
        for value in ["", "close", "keep-alive, Upgrade", "X-Client-Certs"] {
            assert!(
                !owned().must_remove(b"connection", value.as_bytes()),
                "{value}"
            );
        }
        assert!(owned().must_remove(b"X-Client-Cert", b""));
    }
}
