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
pub struct OwnedNames {
    names: HashSet<Box<[u8]>, RandomState>,
    /// Bit n: some name is n bytes long.
    lengths: u128,
}

impl OwnedNames {
    /// Folds `names`. Names of over 127 bytes are not allowed in a policy and are ignored.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> OwnedNames {
        let mut owned = OwnedNames::default();
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
        if name.len() >= MAX_NAME || self.lengths & (1 << name.len()) == 0 {
            return false;
        }
        let mut buffer = [0; MAX_NAME];
        fold(name, &mut buffer).is_some_and(|folded| self.names.contains(folded))
    }

    /// Whether no name is owned.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
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

    fn owned() -> OwnedNames {
        OwnedNames::new(["X-Client-Cert", "X-Client-Cert-Subject-DN"].into_iter())
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
        ] {
            assert!(!owned().contains(name.as_bytes()), "{name}");
        }
        assert!(!owned().contains(&[b'x'; 4096]));
    }
}
