//! The plugin `header-cert-auth`, and the field `proof_of_possession_mtls_from_header` of
//! `openid-connect`.

use super::fields::{Object, Schema};
use super::{DocumentReader, MtlsAuth};
use crate::inbound::{AllowedPeers, Format, XfccElement};
use crate::policy::report::Path;
use crate::policy::tree::Node;
use crate::policy::CertificateHeader;

/// The configuration of `header-cert-auth`.
pub(in crate::policy) struct HeaderCertAuth<'t> {
    /// The fields that `mtls-auth` has as well.
    pub auth: MtlsAuth<'t>,
    /// The header with the certificate. `None` if it has errors, which were reported.
    pub certificate_header: Option<CertificateHeader>,
}

pub(super) const HEADER_CERT_AUTH: Schema = Schema {
    name: "header-cert-auth",
    supported: &[
        "enforce",
        "certificate_header_name",
        "certificate_header_format",
        "xfcc_element",
        "secure_source",
        "ca_certificates",
        "pinned_certificates",
        "trust_domains",
        "allow_partial_chain",
        "skip_consumer_lookup",
        "verify_depth",
        "auth_level",
        "client_auth_eku",
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
        "anonymous",
        "default_consumer",
        "upn_as_subject_name",
        "crls",
        "max_crl_bytes",
    ],
    ignored: &[],
    unsupported: &[],
};

const FROM_HEADER: Schema = Schema {
    name: "proof_of_possession_mtls_from_header",
    supported: &[
        "certificate_header_name",
        "certificate_header_format",
        "xfcc_element",
        "secure_source",
        "ca_certificates",
        "allow_partial_chain",
        "verify_depth",
        "auth_level",
        "client_auth_eku",
        "revocation_check_mode",
        "http_timeout",
        "status_wait",
        "ocsp_max_age",
        "cert_cache_ttl",
        "http_proxy_host",
        "http_proxy_port",
        "https_proxy_host",
        "https_proxy_port",
        "ssl_verify",
        "crls",
        "max_crl_bytes",
    ],
    ignored: &[],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    pub(super) fn header_cert_auth(
        &mut self,
        node: &'t Node<'t>,
        config: Option<&'t Node<'t>>,
        path: &Path<'_>,
    ) -> HeaderCertAuth<'t> {
        let mut read = HeaderCertAuth {
            auth: MtlsAuth::default(),
            certificate_header: None,
        };
        let Some(config) = config else {
            self.missing(node, path, "ca_certificates");
            return read;
        };
        let Some(object) = self.object(config, path, &HEADER_CERT_AUTH) else {
            return read;
        };
        if object.get("certificate_header_format").is_none() {
            self.missing(config, path, "certificate_header_format");
        }
        read.certificate_header = self.certificate_header(&object, path);
        self.chain_verification(&object, path, &mut read.auth);
        read.auth.skip_consumer_lookup = self
            .boolean(&object, path, "skip_consumer_lookup")
            .unwrap_or(false);
        self.consumer_mapping(&object, path, &mut read.auth);
        read
    }

    /// Reads `proof_of_possession_mtls_from_header`.
    pub(super) fn certificate_from_header(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
    ) -> Option<HeaderCertAuth<'t>> {
        let object = self.object(node, path, &FROM_HEADER)?;
        let mut auth = MtlsAuth {
            skip_consumer_lookup: true,
            ..MtlsAuth::default()
        };
        let certificate_header = self.certificate_header(&object, path);
        self.chain_verification(&object, path, &mut auth);
        Some(HeaderCertAuth {
            auth,
            certificate_header,
        })
    }

    /// Reads the fields about the verification of the certificate chain and its revocation.
    fn chain_verification(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        auth: &mut MtlsAuth<'t>,
    ) {
        self.ca_references(object, path, auth);
        self.verify_options(object, path, auth);
        self.revocation(object, path, auth);
    }

    /// Reads the fields about the header with the certificate.
    fn certificate_header(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
    ) -> Option<CertificateHeader> {
        let formats = Format::ALL;
        let format = match object.get("certificate_header_format") {
            // The default of openid-connect. header-cert-auth has none, and reports it as missing.
            None => Some(Format::UrlEncoded),
            Some(_) => self.one_of(object, path, "certificate_header_format", &formats),
        };
        let elements = [
            ("only", XfccElement::Only),
            ("last", XfccElement::Last),
            ("first", XfccElement::First),
        ];
        let element = self
            .one_of(object, path, "xfcc_element", &elements)
            .unwrap_or_default();
        if let Some(node) = object.get("xfcc_element") {
            if format.is_some_and(|format| format != Format::Xfcc) {
                let message = "has no effect, expected 'certificate_header_format: xfcc' with it";
                self.report
                    .error(node.position, &path.field("xfcc_element"), message);
            }
        }
        let source = match self.boolean(object, path, "secure_source") {
            Some(false) => AllowedPeers::Anyone,
            _ => AllowedPeers::Trusted,
        };
        let field = "certificate_header_name";
        let Some(node) = object.get(field) else {
            self.missing(object.node, path, field);
            return None;
        };
        let name = self.reserved_header_name(node, &path.field(field))?;
        if name.contains('_') {
            let message = "contains '_': without 'underscores_in_headers on' nginx drops such a \
                           header, and no certificate arrives; expected '-'";
            let subject = format!("inbound header {name}");
            self.report
                .warn_once(&subject, node.position, &path.field(field), message);
        }
        Some(CertificateHeader::new(name, format?, element, source))
    }
}
