//! Cloudflare's `client_certificate_forwarding`: the certificate itself, for the hostnames that are
//! configured for it.
//!
//! Source: Cloudflare docs, "Forward a client certificate", and the API call there. The encoding of
//! the digest is not documented; here it is lower-case hexadecimal.
//! Readers: client-certificate-auth (its preset `cloudflare`), origins behind Cloudflare.
//! No certificate, or one that is not verified, unless `when: presented`: neither header. By
//! default, as documented, only the first request of a connection carries them; readers must accept
//! later requests without them.

use std::collections::BTreeMap;

use super::common::{der_base64, sha256};
use super::header::Header;
use crate::handshake::server_name::{normalise, Buffer, Pattern, MAX_LEN};
use crate::Error;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("der_base64", "Cf-Client-Cert-Der-Base64", der_base64),
    Header::new("sha256", "Cf-Client-Cert-Sha256", sha256),
];

/// Which requests carry the certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardOn {
    /// The first request of a connection. A request is counted when it reaches the access phase, so
    /// exactly one of the streams of an HTTP/2 connection is the first.
    #[default]
    FirstRequest,
    /// All requests.
    EveryRequest,
}

/// The options `settings` and `on`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardingOptions {
    /// Which requests carry the certificate.
    pub on: ForwardOn,
    /// For which hosts; without it for every host.
    pub settings: Option<HostSettings>,
}

impl ForwardingOptions {
    /// Whether requests to this host, as the client sent it but without a port, carry the
    /// certificate.
    pub fn forwards(&self, host: &[u8]) -> bool {
        self.settings
            .as_ref()
            .is_none_or(|settings| settings.forwards(host))
    }
}

/// The `settings` array of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSettings(BTreeMap<Box<str>, bool>);

impl HostSettings {
    /// Adds one element: its `hostname` and `client_certificate_forwarding`. Its `china_network`
    /// concerns Cloudflare's own network only and is not used.
    ///
    /// # Errors
    /// When `hostname` is not a host name, is a wildcard, or has a setting already.
    pub fn add(&mut self, hostname: &str, forwarding: bool) -> Result<(), Error> {
        let Pattern::Exact(name) = Pattern::parse(hostname.as_bytes())? else {
            return Err(Error::ServerName(format!(
                "hostname '{hostname}' is a wildcard, expected one host name"
            )));
        };
        match self.0.insert(name.into(), forwarding) {
            None => Ok(()),
            Some(_) => Err(Error::ServerName(format!(
                "hostname '{hostname}' has a setting already, expected one each"
            ))),
        }
    }

    fn forwards(&self, host: &[u8]) -> bool {
        let mut buffer: Buffer = [0; MAX_LEN + 1];
        let name = normalise(host, &mut buffer).and_then(|name| std::str::from_utf8(name).ok());
        name.and_then(|name| self.0.get(name))
            .copied()
            .unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_depends_on_the_settings() {
        let mut settings = HostSettings::default();
        settings.add("On.example.com", true).unwrap();
        settings.add("off.example.com", false).unwrap();
        let options = ForwardingOptions {
            settings: Some(settings),
            ..ForwardingOptions::default()
        };
        for (host, expected) in [
            (&b"on.example.com"[..], true),
            (b"ON.EXAMPLE.COM.", true),
            (b"off.example.com", false),
            (b"other.example.com", false),
            (b"", false),
            (b"\xff", false),
        ] {
            assert_eq!(options.forwards(host), expected, "{host:?}");
        }
    }

    #[test]
    fn forwards_every_host_without_settings_and_none_with_empty_settings() {
        let mut options = ForwardingOptions::default();
        assert!(options.forwards(b"a.example"));
        options.settings = Some(HostSettings::default());
        assert!(!options.forwards(b"a.example"));
    }

    #[test]
    fn add_duplicate_or_wildcard_hostname_is_an_error() {
        let mut settings = HostSettings::default();
        settings.add("a.example", true).unwrap();
        assert_eq!(
            settings.add("A.example.", false).unwrap_err().to_string(),
            "hostname 'A.example.' has a setting already, expected one each"
        );
        assert_eq!(
            settings.add("*.example", true).unwrap_err().to_string(),
            "hostname '*.example' is a wildcard, expected one host name"
        );
    }
}
