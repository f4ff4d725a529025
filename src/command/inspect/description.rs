//! One certificate as `inspect` describes it.

use openssl::asn1::Asn1Object;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::x509::{X509KeyUsage, X509Ref, X509VerifyResult};
use serde_json::{json, Map, Value};

use super::oddities;
use crate::certificate::spiffe::Svid;
use crate::certificate::{name::Attribute, san, time, Certificate, San};
use crate::openssl_ext::x509 as ext;
use crate::text::hex;
use crate::trust::{revocation_urls, ClientAuthEku};
use crate::Error;

const DAY: i64 = 86_400;

/// Security in bits that OpenSSL requires at the levels 1 to 5 (`X509_VERIFY_PARAM_set_auth_level`).
const REQUIRED_BITS: [u32; 5] = [80, 112, 128, 192, 256];

/// The policy's values of `client_auth_eku`, the strictest first.
const CLIENT_AUTH_EKU: [(&str, ClientAuthEku); 3] = [
    ("required", ClientAuthEku::Required),
    ("allow_server_auth", ClientAuthEku::AllowServerAuth),
    ("any", ClientAuthEku::Any),
];

/// The bits of the keyUsage extension under their names of RFC 5280 section 4.2.1.3.
const KEY_USAGE: [(&str, X509KeyUsage); 9] = [
    ("digitalSignature", X509KeyUsage::DIGITAL_SIGNATURE),
    ("nonRepudiation", X509KeyUsage::NON_REPUDIATION),
    ("keyEncipherment", X509KeyUsage::KEY_ENCIPHERMENT),
    ("dataEncipherment", X509KeyUsage::DATA_ENCIPHERMENT),
    ("keyAgreement", X509KeyUsage::KEY_AGREEMENT),
    ("keyCertSign", X509KeyUsage::KEY_CERT_SIGN),
    ("cRLSign", X509KeyUsage::CRL_SIGN),
    ("encipherOnly", X509KeyUsage::ENCIPHER_ONLY),
    ("decipherOnly", X509KeyUsage::DECIPHER_ONLY),
];

/// What is shown of a certificate.
pub(super) struct Description<'c> {
    pub certificate: &'c Certificate,
    /// Whether it is the first of the chain.
    pub is_leaf: bool,
    /// The key; `None` if OpenSSL cannot read it.
    pub key: Option<PKey<Public>>,
    /// Whether its own key made its signature.
    pub is_self_signed: bool,
    /// In seconds since the epoch.
    pub now: i64,
    pub not_before: Option<i64>,
    pub not_after: Option<i64>,
}

impl<'c> Description<'c> {
    pub fn new(certificate: &'c Certificate, is_leaf: bool, now: i64) -> Description<'c> {
        let leaf = certificate.leaf();
        let key = leaf.public_key().ok();
        let is_self_signed = leaf.issued(leaf) == X509VerifyResult::OK
            && key
                .as_ref()
                .is_some_and(|key| leaf.verify(key).unwrap_or(false));
        let description = Description {
            certificate,
            is_leaf,
            key,
            is_self_signed,
            now,
            not_before: certificate.not_before().ok(),
            not_after: certificate.not_after().ok(),
        };
        // What could not be read is `None`.
        ErrorStack::get();
        description
    }

    pub fn leaf(&self) -> &'c X509Ref {
        self.certificate.leaf()
    }

    /// The name of the key's algorithm, and of the curve of an EC key.
    fn key_type(&self) -> (String, Option<String>) {
        let Some(key) = &self.key else {
            return ("unknown".to_owned(), None);
        };
        let name = match key.id() {
            Id::RSA => "RSA",
            Id::RSA_PSS => "RSA-PSS",
            Id::EC => "EC",
            Id::DSA => "DSA",
            Id::DH => "DH",
            Id::ED25519 => "Ed25519",
            Id::ED448 => "Ed448",
            Id::X25519 => "X25519",
            Id::X448 => "X448",
            other => Nid::from_raw(other.as_raw())
                .long_name()
                .unwrap_or("unknown"),
        };
        let curve = key.ec_key().ok().map(|key| match key.group().curve_name() {
            Some(nid) => nid.short_name().unwrap_or("unnamed").to_owned(),
            None => "explicit parameters".to_owned(),
        });
        ErrorStack::get();
        (name.to_owned(), curve)
    }

    /// The security of the key in bits; 0 for an unreadable one.
    pub fn key_security_bits(&self) -> u32 {
        let bits = self.key.as_ref().map_or(0, |key| key.security_bits());
        // The openssl crate casts a negative number.
        i32::try_from(bits).map_or(0, |_| bits)
    }

    /// The name of the algorithm that signed it, as `openssl x509 -text` prints it.
    pub fn signature(&self) -> String {
        let algorithm = self.leaf().signature_algorithm().object();
        match algorithm.nid() {
            Nid::UNDEF => ext::oid(algorithm),
            nid => nid
                .long_name()
                .map_or_else(|_| ext::oid(algorithm), str::to_owned),
        }
    }

    /// The highest `auth_level` that accepts the certificate, whatever its chain, and why the next
    /// one does not. The signature of a self-signed certificate does not count.
    fn auth_level(&self) -> (usize, Option<String>) {
        let refusals = REQUIRED_BITS.iter().map(|bits| self.refusal_below(*bits));
        match refusals
            .enumerate()
            .find_map(|(level, why)| Some((level, why?)))
        {
            Some((highest, why)) => (highest, Some(why)),
            None => (REQUIRED_BITS.len(), None),
        }
    }

    /// Why it has less security than this number of bits.
    fn refusal_below(&self, required: u32) -> Option<String> {
        if self.key.is_none() {
            return Some("its key cannot be read".to_owned());
        }
        let key = self.key_security_bits();
        if key < required {
            return Some(format!(
                "its key has {key} bits of security, {required} are required"
            ));
        }
        if self.is_self_signed {
            return None;
        }
        let signature = ext::signature_security_bits(self.leaf()).unwrap_or(0);
        (signature < required).then(|| {
            format!("its signature has {signature} bits of security, {required} are required")
        })
    }

    /// Purposes of the extendedKeyUsage: short names of OpenSSL, dotted OIDs of unknown ones.
    fn extended_key_usage(&self) -> Vec<String> {
        let name = |oid: String| {
            let nid = Asn1Object::from_str(&oid).map_or(Nid::UNDEF, |object| object.nid());
            match nid {
                Nid::UNDEF => oid,
                nid => nid.short_name().map_or(oid, str::to_owned),
            }
        };
        let purposes = self.certificate.extended_key_usage();
        let names = purposes.into_iter().map(name).collect();
        ErrorStack::get();
        names
    }

    fn key_usage(&self) -> Vec<&'static str> {
        let Some(usage) = self.leaf().key_usage() else {
            return Vec::new();
        };
        let set = KEY_USAGE.iter().filter(|(_, bit)| usage.contains(*bit));
        set.map(|(name, _)| *name).collect()
    }

    /// The strictest value of `client_auth_eku` that accepts it, and why the default does not.
    fn client_auth_eku(&self) -> (Option<&'static str>, Option<&'static str>) {
        let accepted = |(_, value): &&(&str, ClientAuthEku)| value.refusal(self.leaf()).is_none();
        let found = CLIENT_AUTH_EKU.iter().find(accepted).map(|(name, _)| *name);
        (found, ClientAuthEku::Required.refusal(self.leaf()))
    }

    /// `{subject_dn, ...}` as docs/command.md lists it, without `chain`.
    pub fn json(&self) -> Map<String, Value> {
        let certificate = self.certificate;
        let (key_type, curve) = self.key_type();
        let svid = match certificate.svid() {
            Svid::Workload(id) => Some(id),
            _ => None,
        };
        let spki = certificate.spki_sha256s().next().map(|digest| hex(&digest));
        let (level, refusal) = self.auth_level();
        let value = json!({
            "subject_dn": certificate.subject_dn().ok(),
            "issuer_dn": certificate.issuer_dn().ok(),
            "serial": certificate.serial(),
            "fingerprint_sha1": certificate.fingerprint_sha1().ok(),
            "fingerprint_sha256": certificate.fingerprint_sha256(),
            "spki_sha256": spki,
            "version": self.leaf().version().saturating_add(1),
            "not_before": self.not_before,
            "not_after": self.not_after,
            "subject": attributes_json(certificate.subject()),
            "san": self.san_json(),
            "key_usage": self.key_usage(),
            "eku": self.extended_key_usage(),
            "ca": ext::is_ca(self.leaf()),
            "self_signed": self.is_self_signed,
            "key": {
                "type": key_type,
                "bits": self.key.as_ref().map(|key| key.bits()),
                "curve": curve,
            },
            "signature": self.signature(),
            "spiffe_id": svid.map(|id| id.as_str()),
            "trust_domain": svid.map(|id| id.trust_domain()),
            "spiffe_error": match certificate.svid() {
                Svid::Invalid(why) => Some(&**why),
                _ => None,
            },
            "client_auth_eku": self.client_auth_eku().0.filter(|_| self.is_leaf),
            "auth_level": { "highest": level, "reason": refusal },
            "ocsp": revocation_urls::ocsp(self.leaf()),
            "crl": revocation_urls::crl(self.leaf()),
            "oddities": oddities::of(self),
        });
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    fn san_json(&self) -> Value {
        let mut san = Map::new();
        for kind in ["dns", "uri", "email", "ip", "dirname", "upn"] {
            san.insert(kind.to_owned(), Value::Array(Vec::new()));
        }
        let mut push = |kind: &str, value: &[u8]| {
            if let Some(Value::Array(values)) = san.get_mut(kind) {
                values.push(String::from_utf8_lossy(value).into());
            }
        };
        for name in self.certificate.san() {
            push(&name.kind().to_ascii_lowercase(), &name.value());
        }
        for upn in san::user_principal_names(self.leaf()).iter().flatten() {
            push("upn", upn);
        }
        Value::Object(san)
    }

    /// Labels and values for people, not yet escaped.
    pub fn lines(&self) -> Vec<(String, Vec<u8>)> {
        let certificate = self.certificate;
        let mut lines = Lines(Vec::new());
        lines.dn("subject", certificate.subject_dn());
        lines.dn("issuer", certificate.issuer_dn());
        lines.add("serial", certificate.serial());
        lines.add("not before", self.date(self.not_before));
        lines.add("not after", self.date(self.not_after));
        for name in certificate.san() {
            lines.bytes(&format!("SAN {}", name.kind()), name.value());
        }
        for upn in san::user_principal_names(self.leaf()).into_iter().flatten() {
            lines.bytes("SAN UPN", upn);
        }
        let (key_type, curve) = self.key_type();
        let bits = self.key.as_ref().map_or(0, |key| key.bits());
        lines.add(
            "key",
            match (&self.key, curve) {
                (None, _) => "cannot be read".to_owned(),
                (_, Some(curve)) => format!("{key_type}, {bits} bits, {curve}"),
                (_, None) => format!("{key_type}, {bits} bits"),
            },
        );
        lines.add("signature", self.signature());
        lines.list("key usage", &self.key_usage());
        lines.list("extended key usage", &self.extended_key_usage());
        if ext::is_ca(self.leaf()) {
            lines.add("CA", "yes");
        }
        lines.list("OCSP", &revocation_urls::ocsp(self.leaf()));
        lines.list("CRL", &revocation_urls::crl(self.leaf()));
        lines.add("SHA-1", certificate.fingerprint_sha1().unwrap_or_default());
        lines.add("SHA-256", certificate.fingerprint_sha256());
        if let Some(digest) = certificate.spki_sha256s().next() {
            lines.add("SPKI SHA-256", hex(&digest));
        }
        match certificate.svid() {
            Svid::None => lines.add("SPIFFE", "no SPIFFE ID"),
            Svid::Workload(id) => lines.add("SPIFFE", format!("SVID of {}", id.as_str())),
            Svid::Invalid(why) => lines.add("SPIFFE", format!("no SVID: {why}")),
        }
        if self.is_leaf {
            let text = match self.client_auth_eku() {
                (_, None) => "'required', the default, accepts it".to_owned(),
                (Some(value), Some(why)) => {
                    format!("'required', the default, refuses it: {why}; '{value}' accepts it")
                }
                (None, Some(why)) => format!("every value refuses it: {why}"),
            };
            lines.add("client_auth_eku", text);
        }
        let text = match self.auth_level() {
            (highest, None) => format!("0 to {highest} accept it"),
            (0, Some(why)) => format!("0 accepts it, 1 and higher ones refuse it: {why}"),
            (highest, Some(why)) => {
                let next = highest + 1;
                format!("0 to {highest} accept it, {next} and higher ones refuse it: {why}")
            }
        };
        lines.add("auth_level", text);
        for oddity in oddities::of(self) {
            lines.add("oddity", oddity);
        }
        lines.0
    }

    /// A time, and how far away it is.
    fn date(&self, seconds: Option<i64>) -> String {
        let Some(seconds) = seconds else {
            return "cannot be read".to_owned();
        };
        let text = time::rfc3339(seconds, "Z");
        match seconds.saturating_sub(self.now) / DAY {
            0 => text,
            1 => format!("{text}, in 1 day"),
            -1 => format!("{text}, 1 day ago"),
            days @ 1.. => format!("{text}, in {days} days"),
            days => format!("{text}, {} days ago", days.unsigned_abs()),
        }
    }
}

/// `{CN: [value, ...], ...}`.
fn attributes_json(attributes: &[Attribute]) -> Value {
    let mut map = Map::new();
    for attribute in attributes {
        let values = map
            .entry(attribute.name.clone())
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            values.push(String::from_utf8_lossy(&attribute.value).into());
        }
    }
    Value::Object(map)
}

struct Lines(Vec<(String, Vec<u8>)>);

impl Lines {
    fn bytes(&mut self, label: &str, value: Vec<u8>) {
        self.0.push((label.to_owned(), value));
    }

    fn add(&mut self, label: &str, value: impl Into<String>) {
        self.bytes(label, value.into().into_bytes());
    }

    fn dn(&mut self, label: &str, dn: Result<String, Error>) {
        match dn {
            Ok(dn) if dn.is_empty() => self.add(label, "(empty)"),
            Ok(dn) => self.add(label, dn),
            Err(error) => self.add(label, error.to_string()),
        }
    }

    /// A line, if the list is not empty.
    fn list<T: AsRef<str>>(&mut self, label: &str, values: &[T]) {
        if !values.is_empty() {
            let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
            self.add(label, values.join(", "));
        }
    }
}

/// The value of a name in bytes, for the search of odd characters.
pub(super) fn name_values(certificate: &Certificate) -> impl Iterator<Item = Vec<u8>> + '_ {
    let san = certificate.san().iter().filter_map(|name| match name {
        San::Dns(value) | San::Email(value) | San::Uri(value) => Some(value.clone()),
        San::Ip(_) | San::Directory { .. } => None,
    });
    san.chain(directory_values(certificate))
}

/// The values of the attributes of subject, issuer and directory names.
fn directory_values(certificate: &Certificate) -> impl Iterator<Item = Vec<u8>> + '_ {
    let issuer = crate::certificate::name::attributes(certificate.leaf().issuer_name());
    let directories = certificate.san().iter().flat_map(|name| match name {
        San::Directory { attributes, .. } => attributes.as_slice(),
        _ => &[],
    });
    let attributes = certificate.subject().iter().chain(directories).cloned();
    attributes.chain(issuer).map(|attribute| attribute.value)
}
