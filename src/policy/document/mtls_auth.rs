//! The plugin `mtls-auth`.

use std::hash::{Hash, Hasher};

use openssl::asn1::Asn1Object;

use super::fields::{Object, Schema, MAX_TIME};
use super::{DocumentReader, Uuid};
use crate::identity::ConsumerBy;
use crate::policy::report::{Path, Position};
use crate::policy::tree::{Node, Value};
use crate::policy::{GroupBy, RevocationMode};
use crate::text::quoted;
use crate::trust::{revocation_urls, ClientAuthEku, VerifyOptions};

/// The id or username of a consumer.
pub(in crate::policy) type ConsumerName<'t> = (&'t str, Position);

/// The host and port of a proxy.
pub(in crate::policy) type Proxy = (Box<str>, u16);

/// The configuration of `mtls-auth`. `header-cert-auth` has many of its fields.
pub(in crate::policy) struct MtlsAuth<'t> {
    pub cas: Vec<(Uuid, Position)>,
    /// The paths of files of pinned certificates.
    pub pinned: Vec<(&'t str, Position)>,
    /// The names of the trust domains whose SVIDs are accepted.
    pub trust_domains: Vec<(&'t str, Position)>,
    pub options: VerifyOptions,
    pub send_ca_dn: bool,
    /// Whether TLS sessions of its clients may be resumed.
    pub resumption: bool,
    pub skip_consumer_lookup: bool,
    pub consumer_by: ConsumerBy,
    pub anonymous: Option<ConsumerName<'t>>,
    pub default_consumer: Option<ConsumerName<'t>>,
    pub group_by: Option<GroupBy>,
    /// The attribute types in `san_dirname_matcher`, as OpenSSL writes them.
    pub dirname: Vec<Box<str>>,
    /// Whether a userPrincipalName counts as a subject name.
    pub upn: bool,
    pub revocation: RevocationMode,
    /// In seconds.
    pub cert_cache_ttl: u32,
    /// In milliseconds.
    pub http_timeout: u32,
    /// In milliseconds; `None` for `http_timeout`.
    pub status_wait: Option<u32>,
    /// In seconds.
    pub ocsp_max_age: u32,
    pub ssl_verify: bool,
    /// Whether CORS preflights are authenticated.
    pub run_on_preflight: bool,
    pub http_proxy: Option<Proxy>,
    pub https_proxy: Option<Proxy>,
    pub crls: Vec<(CrlSource<'t>, Position)>,
    /// Most bytes of a CRL.
    pub max_crl_bytes: u32,
}

/// An entry of `crls`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum CrlSource<'t> {
    /// The path of a file.
    File(&'t str),
    /// A CRL that the gateway fetches.
    Url {
        url: &'t str,
        /// Seconds between two fetches; by the nextUpdate of the CRL without it.
        refresh: Option<u32>,
        /// Seconds after nextUpdate for which the CRL still makes certificates good.
        max_stale: u32,
    },
}

/// Least seconds between two fetches of a CRL.
const MIN_REFRESH: u32 = 1;

/// Default and largest value of `max_crl_bytes`.
const MAX_CRL_BYTES: u32 = 16 << 20;
const LARGEST_CRL: u32 = 512 << 20;

const CRL_URL: Schema = Schema {
    name: "an entry of crls",
    supported: &["url", "refresh", "max_stale"],
    ignored: &[],
    unsupported: &[],
};

impl Default for MtlsAuth<'_> {
    fn default() -> Self {
        MtlsAuth {
            cas: Vec::new(),
            pinned: Vec::new(),
            trust_domains: Vec::new(),
            options: VerifyOptions::default(),
            send_ca_dn: false,
            resumption: true,
            skip_consumer_lookup: false,
            consumer_by: ConsumerBy {
                username: true,
                custom_id: true,
            },
            anonymous: None,
            default_consumer: None,
            group_by: Some(GroupBy::Cn),
            dirname: Vec::new(),
            upn: false,
            revocation: RevocationMode::IgnoreCaError,
            cert_cache_ttl: 60_000,
            http_timeout: 30_000,
            status_wait: None,
            ocsp_max_age: 86_400,
            ssl_verify: true,
            run_on_preflight: true,
            http_proxy: None,
            https_proxy: None,
            crls: Vec::new(),
            max_crl_bytes: MAX_CRL_BYTES,
        }
    }
}

/// Compares configurations without the positions of their fields in the document.
pub(in crate::policy) struct IgnoringPositions<'c, 't>(pub &'c MtlsAuth<'t>);

impl PartialEq for IgnoringPositions<'_, '_> {
    fn eq(&self, other: &Self) -> bool {
        fn listed<T: PartialEq>(a: &[(T, Position)], b: &[(T, Position)]) -> bool {
            a.iter().map(|(a, _)| a).eq(b.iter().map(|(b, _)| b))
        }
        fn named(name: Option<ConsumerName<'_>>) -> Option<&str> {
            name.map(|(name, _)| name)
        }
        // All fields are named, so that the compiler reports one that is not compared.
        let MtlsAuth {
            cas,
            pinned,
            trust_domains,
            options,
            send_ca_dn,
            resumption,
            skip_consumer_lookup,
            consumer_by,
            anonymous,
            default_consumer,
            group_by,
            dirname,
            upn,
            revocation,
            cert_cache_ttl,
            http_timeout,
            status_wait,
            ocsp_max_age,
            ssl_verify,
            run_on_preflight,
            http_proxy,
            https_proxy,
            crls,
            max_crl_bytes,
        } = self.0;
        let other = other.0;
        listed(cas, &other.cas)
            && listed(pinned, &other.pinned)
            && listed(trust_domains, &other.trust_domains)
            && *options == other.options
            && *send_ca_dn == other.send_ca_dn
            && *resumption == other.resumption
            && *skip_consumer_lookup == other.skip_consumer_lookup
            && *consumer_by == other.consumer_by
            && named(*anonymous) == named(other.anonymous)
            && named(*default_consumer) == named(other.default_consumer)
            && *group_by == other.group_by
            && *dirname == other.dirname
            && *upn == other.upn
            && *revocation == other.revocation
            && *cert_cache_ttl == other.cert_cache_ttl
            && *http_timeout == other.http_timeout
            && *status_wait == other.status_wait
            && *ocsp_max_age == other.ocsp_max_age
            && *ssl_verify == other.ssl_verify
            && *run_on_preflight == other.run_on_preflight
            && *http_proxy == other.http_proxy
            && *https_proxy == other.https_proxy
            && listed(crls, &other.crls)
            && *max_crl_bytes == other.max_crl_bytes
    }
}

impl Eq for IgnoringPositions<'_, '_> {}

impl Hash for IgnoringPositions<'_, '_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The fields that differ most between plugins suffice for a hash.
        let MtlsAuth {
            cas,
            options,
            send_ca_dn,
            anonymous,
            default_consumer,
            ..
        } = self.0;
        cas.iter().for_each(|(id, _)| id.hash(state));
        options.hash(state);
        send_ca_dn.hash(state);
        for consumer in [anonymous, default_consumer] {
            consumer.map(|(name, _)| name).hash(state);
        }
    }
}

/// The values of `client_auth_eku`.
const CLIENT_AUTH_EKU: &[(&str, ClientAuthEku)] = &[
    ("required", ClientAuthEku::Required),
    ("allow_server_auth", ClientAuthEku::AllowServerAuth),
    ("any", ClientAuthEku::Any),
];

pub(super) const MTLS_AUTH: Schema = Schema {
    name: "mtls-auth",
    supported: &[
        "enforce",
        "ca_certificates",
        "pinned_certificates",
        "trust_domains",
        "send_ca_dn",
        "allow_partial_chain",
        "skip_consumer_lookup",
        "verify_depth",
        "auth_level",
        "client_auth_eku",
        "resumption",
        "revocation_check_mode",
        "http_timeout",
        "status_wait",
        "ocsp_max_age",
        "cert_cache_ttl",
        "cache_ttl",
        "http_proxy_host",
        "http_proxy_port",
        "https_proxy_host",
        "https_proxy_port",
        "ssl_verify",
        "consumer_by",
        "authenticated_group_by",
        "san_dirname_matcher",
        "upn_as_subject_name",
        "anonymous",
        "default_consumer",
        "run_on_preflight",
        "crls",
        "max_crl_bytes",
    ],
    ignored: &[],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    pub(super) fn mtls_auth(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> MtlsAuth<'t> {
        let mut config = MtlsAuth::default();
        let Some(object) = self.object(node, path, &MTLS_AUTH) else {
            return config;
        };
        self.ca_references(&object, path, &mut config);
        config.send_ca_dn = self.boolean(&object, path, "send_ca_dn").unwrap_or(false);
        config.run_on_preflight = self
            .boolean(&object, path, "run_on_preflight")
            .unwrap_or(true);
        config.resumption = self.boolean(&object, path, "resumption").unwrap_or(true);
        config.skip_consumer_lookup = self
            .boolean(&object, path, "skip_consumer_lookup")
            .unwrap_or(false);
        self.verify_options(&object, path, &mut config);
        self.consumer_mapping(&object, path, &mut config);
        self.revocation(&object, path, &mut config);
        config
    }

    /// Reads the fields about the verification of the certificate chain.
    pub(super) fn verify_options(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        config: &mut MtlsAuth<'t>,
    ) {
        let default = VerifyOptions::default();
        config.options = VerifyOptions {
            allow_partial_chain: self
                .boolean(object, path, "allow_partial_chain")
                .unwrap_or(default.allow_partial_chain),
            depth: self
                .integer(object, path, "verify_depth", 0, 100)
                .unwrap_or(default.depth),
            auth_level: self
                .integer(object, path, "auth_level", 0, 5)
                .unwrap_or(default.auth_level),
            client_auth_eku: self
                .one_of(object, path, "client_auth_eku", CLIENT_AUTH_EKU)
                .unwrap_or(default.client_auth_eku),
        };
    }

    /// Reads the fields about the mapping of a certificate to a consumer and to groups.
    pub(super) fn consumer_mapping(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        config: &mut MtlsAuth<'t>,
    ) {
        let mut consumer = |field| {
            let node = object.get(field)?;
            Some((self.text(node, &path.field(field))?, node.position))
        };
        config.anonymous = consumer("anonymous");
        config.default_consumer = consumer("default_consumer");
        if object.field("consumer_by").is_some() {
            config.consumer_by = self.consumer_by(object, path);
        }
        let group_by = [("CN", GroupBy::Cn), ("DN", GroupBy::Dn)];
        match object.field("authenticated_group_by") {
            Some(node) if node.is_null() => config.group_by = None,
            _ => {
                let found = self.one_of(object, path, "authenticated_group_by", &group_by);
                config.group_by = found.or(config.group_by);
            }
        }
        for (text, position, index) in self.texts(object, path, "san_dirname_matcher") {
            let path = path.field("san_dirname_matcher");
            config
                .dirname
                .extend(self.attribute_type(text, position, &path.item(index)));
        }
        config.upn = self
            .boolean(object, path, "upn_as_subject_name")
            .unwrap_or(false);
        // `cache_ttl` is that of Kong's cache of consumers and credentials. Here all of them are in
        // memory, so its value is checked only.
        self.integer(object, path, "cache_ttl", 0, MAX_TIME);
    }

    /// Reads `consumer_by`.
    pub(super) fn consumer_by(&mut self, object: &Object<'t>, path: &Path<'_>) -> ConsumerBy {
        let mut by = ConsumerBy {
            username: false,
            custom_id: false,
        };
        for (text, position, index) in self.texts(object, path, "consumer_by") {
            match text {
                "username" => by.username = true,
                "custom_id" => by.custom_id = true,
                _ => {
                    let text = quoted(text.as_bytes());
                    let message = format!("'{text}', expected 'username' or 'custom_id'");
                    let path = path.field("consumer_by");
                    self.report.error(position, &path.item(index), message);
                }
            }
        }
        by
    }

    /// Reads the fields about revocation.
    pub(super) fn revocation(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        config: &mut MtlsAuth<'t>,
    ) {
        let modes = [
            ("SKIP", RevocationMode::Skip),
            ("IGNORE_CA_ERROR", RevocationMode::IgnoreCaError),
            ("STRICT", RevocationMode::Strict),
        ];
        if let Some(mode) = self.one_of(object, path, "revocation_check_mode", &modes) {
            config.revocation = mode;
        }
        let mut number = |field, to: &mut u32| {
            *to = self
                .integer(object, path, field, 1, MAX_TIME)
                .unwrap_or(*to);
        };
        number("http_timeout", &mut config.http_timeout);
        number("cert_cache_ttl", &mut config.cert_cache_ttl);
        number("ocsp_max_age", &mut config.ocsp_max_age);
        config.status_wait = self.integer(object, path, "status_wait", 0, MAX_TIME);
        if let Some(ssl_verify) = self.boolean(object, path, "ssl_verify") {
            config.ssl_verify = ssl_verify;
        }
        config.http_proxy = self.proxy(object, path, "http_proxy_host", "http_proxy_port");
        config.https_proxy = self.proxy(object, path, "https_proxy_host", "https_proxy_port");
        if let Some(max) = self.integer(object, path, "max_crl_bytes", 1024, LARGEST_CRL) {
            config.max_crl_bytes = max;
        }
        let Some(list) = object.get("crls") else {
            return;
        };
        let path = path.field("crls");
        let shown = match &list.value {
            Value::Scalar { text, .. } if !list.is_null() => Some(crl_entry(text)),
            Value::Map(entries) => entries.iter().find_map(|(key, value)| match &*key.text {
                "file" => Some(crl_entry(value.as_text()?)),
                "url" => Some(format!(
                    "{{url: '{}'}}",
                    quoted(value.as_text()?.as_bytes())
                )),
                _ => None,
            }),
            _ => None,
        };
        if let Some(entry) = shown {
            self.expected(list, &path, &format!("a list, here [{entry}]"));
            return;
        }
        for (index, item) in self
            .list(list, &path)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            if let Some(source) = self.crl_source(item, &path.item(index)) {
                config.crls.push((source, item.position));
            }
        }
    }

    /// Reads an entry of `crls`.
    fn crl_source(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> Option<CrlSource<'t>> {
        let Value::Map(_) = &node.value else {
            let text = self.text(node, path)?;
            if text.is_empty() {
                let message = "'', expected the path of a file of CRLs";
                self.report.error(node.position, path, message);
                return None;
            }
            if text.starts_with("http://") || text.starts_with("https://") {
                let text = quoted(text.as_bytes());
                let message = format!("'{text}' is a URL, expected it as {{url: '{text}'}}");
                self.report.error(node.position, path, message);
                return None;
            }
            let text = self.file_path(text, node.position, path);
            return Some(CrlSource::File(text));
        };
        if let Value::Map(entries) = &node.value {
            let mut entries = entries.iter();
            let file = entries.find(|(key, _)| &*key.text == "file");
            if let Some(text) = file.and_then(|(_, value)| value.as_text()) {
                let message = format!("a file is an entry by itself, expected {}", crl_entry(text));
                self.report.error(node.position, path, message);
                return None;
            }
        }
        let object = self.object(node, path, &CRL_URL)?;
        let Some(url) = object.get("url") else {
            self.missing(node, path, "url");
            return None;
        };
        let refresh = self.integer(&object, path, "refresh", MIN_REFRESH, MAX_TIME);
        let max_stale = self.integer(&object, path, "max_stale", 0, MAX_TIME);
        let path = path.field("url");
        let text = self.text(url, &path)?;
        if !revocation_urls::is_usable(text) {
            let message = format!(
                "'{}' is not an http or https URL, expected for example \
                 'https://pki.example.com/ca.crl'",
                quoted(text.as_bytes())
            );
            self.report.error(url.position, &path, message);
            return None;
        }
        Some(CrlSource::Url {
            url: text,
            refresh,
            max_stale: max_stale.unwrap_or(0),
        })
    }

    /// Reads the host and port of a proxy.
    fn proxy(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        host: &str,
        port: &str,
    ) -> Option<Proxy> {
        let host_node = object.get(host);
        for (node, field, other) in [(host_node, host, port), (object.get(port), port, host)] {
            if let (Some(node), None) = (node, object.get(other)) {
                let message = format!("without '{other}', expected both or neither");
                self.report
                    .error(node.position, &path.field(field), message);
            }
        }
        let number = self.integer(object, path, port, 1, 65_535);
        let node = host_node?;
        let text = self.text(node, &path.field(host))?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let is_address = text.parse::<std::net::Ipv6Addr>().is_ok();
        if text.is_empty() || !(is_address || text.bytes().all(is_plain)) {
            let text = quoted(text.as_bytes());
            let message = format!(
                "'{text}' is neither a host name nor an address, expected for example \
                 'proxy.example.com'"
            );
            self.report.error(node.position, &path.field(host), message);
            return None;
        }
        Some((text.into(), u16::try_from(number?).ok()?))
    }

    /// Returns the attribute type as OpenSSL writes it: its long name, else a dotted OID.
    pub(super) fn attribute_type(
        &mut self,
        text: &str,
        position: Position,
        path: &Path<'_>,
    ) -> Option<Box<str>> {
        match Asn1Object::from_str(text) {
            Ok(object) if !text.contains('\0') => Some(object.to_string().into()),
            _ => {
                let message = format!(
                    "'{}' is not an attribute type of OpenSSL's, expected a short name such as \
                     'OU', a long name such as 'organizationalUnitName' or an OID such as \
                     '2.5.4.11' (case matters)",
                    quoted(text.as_bytes())
                );
                self.report.error(position, path, message);
                None
            }
        }
    }

    /// Reads `ca_certificates`, a list of ids that must not be empty.
    pub(super) fn ca_references(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        config: &mut MtlsAuth<'t>,
    ) {
        for (text, position, index) in self.texts(object, path, "pinned_certificates") {
            let path = path.field("pinned_certificates");
            let text = self.file_path(text, position, &path.item(index));
            if text.is_empty() {
                let message = "'', expected the path of a file of certificates";
                self.report.error(position, &path.item(index), message);
            } else {
                config.pinned.push((text, position));
            }
        }
        for (text, position, index) in self.texts(object, path, "trust_domains") {
            match text {
                "" => {
                    let path = path.field("trust_domains");
                    let message = "'', expected the name of an entry of 'trust_domains'";
                    self.report.error(position, &path.item(index), message);
                }
                name => config.trust_domains.push((name, position)),
            }
        }
        let given = |field| object.get(field).is_some_and(|list| !list.is_empty());
        let others = given("pinned_certificates") || given("trust_domains");
        if object.get("ca_certificates").is_none() {
            if !others {
                self.missing(object.node, path, "ca_certificates");
            }
            return;
        }
        config.cas = self.ca_ids(object, path, others);
    }
}

/// How a file, or a URL, is written as an entry of `crls`.
fn crl_entry(text: &str) -> String {
    let shown = quoted(text.as_bytes());
    match text.starts_with("http://") || text.starts_with("https://") {
        true => format!("{{url: '{shown}'}}"),
        false => format!("'{shown}'"),
    }
}
