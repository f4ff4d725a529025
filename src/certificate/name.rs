//! Distinguished names.

use openssl::nid::Nid;
use openssl::x509::X509NameRef;

use crate::openssl_ext::x509 as ext;
use crate::Error;

/// RFC 2253 text, every byte printable ASCII: what nginx's `$ssl_client_s_dn` holds.
pub fn rfc2253(name: &X509NameRef) -> Result<String, Error> {
    ext::print_rfc2253(name)
        .and_then(|text| String::from_utf8(text).ok())
        .ok_or_else(|| Error::BadCertificate("a name that OpenSSL cannot print".to_owned()))
}

/// One attribute of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// OpenSSL's short name, else the OID in dotted form.
    pub name: String,
    nid: Nid,
    oid: String,
    /// UTF-8 bytes as encoded, NULs kept.
    pub value: Vec<u8>,
}

impl Attribute {
    /// Whether the type of this attribute is written `name`: short name, long name or dotted OID,
    /// case-sensitive.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
            || self.oid == name
            || self
                .nid
                .long_name()
                .is_ok_and(|long_name| long_name == name)
    }
}

/// Attributes in encoded order. An attribute whose string type OpenSSL cannot convert is left out.
pub fn attributes(name: &X509NameRef) -> Vec<Attribute> {
    name.entries()
        .filter_map(|entry| {
            let nid = entry.object().nid();
            let oid = ext::oid(entry.object());
            let name = match nid {
                Nid::UNDEF => oid.clone(),
                nid => nid.short_name().map_or_else(|_| oid.clone(), str::to_owned),
            };
            Some(Attribute {
                name,
                nid,
                oid,
                value: ext::to_utf8(entry.data())?,
            })
        })
        .collect()
}
