//! The plugin `tls-metadata-headers`.

use super::fields::Schema;
use super::{fold_header_name, DocumentReader};
use crate::headers::{kong, Dialect, DialectConfig, DialectOptions, ForwardWhen};
use crate::policy::report::Path;
use crate::policy::tree::Node;

/// The configuration of `tls-metadata-headers`.
pub(in crate::policy) struct TlsMetadataHeaders {
    /// Whether the headers are set. The names are reserved either way.
    pub inject: bool,
    pub selection: DialectConfig,
}

pub(super) const TLS_METADATA_HEADERS: Schema = Schema {
    name: "tls-metadata-headers",
    supported: &[
        "inject_client_cert_details",
        "client_cert_header_name",
        "client_serial_header_name",
        "client_cert_issuer_dn_header_name",
        "client_cert_subject_dn_header_name",
        "client_cert_fingerprint_header_name",
        "client_cert_chain_header_name",
    ],
    ignored: &[],
    unsupported: &[],
};

/// The fields with header names, each with its default and the key of the header in the dialect.
const HEADER_NAMES: &[(&str, &str, &str)] = &[
    ("client_cert_header_name", kong::CERT, "client_cert"),
    ("client_serial_header_name", kong::SERIAL, "client_serial"),
    (
        "client_cert_issuer_dn_header_name",
        kong::ISSUER_DN,
        "client_cert_issuer_dn",
    ),
    (
        "client_cert_subject_dn_header_name",
        kong::SUBJECT_DN,
        "client_cert_subject_dn",
    ),
    (
        "client_cert_fingerprint_header_name",
        kong::FINGERPRINT,
        "client_cert_fingerprint",
    ),
    (
        "client_cert_chain_header_name",
        kong::CHAIN,
        "client_cert_chain",
    ),
];

/// The field that may be null, so that the header is not set.
const OPTIONAL_HEADER: &str = "client_cert_chain_header_name";

impl<'t> DocumentReader<'t, '_> {
    pub(super) fn tls_metadata_headers<'c>(
        &mut self,
        node: &'c Node<'c>,
        path: &Path<'_>,
    ) -> TlsMetadataHeaders {
        let mut config = TlsMetadataHeaders {
            inject: false,
            // Kong forwards every certificate that was presented, verified or not.
            selection: DialectConfig::without_headers(
                Dialect::Kong,
                DialectOptions {
                    when: Some(ForwardWhen::Presented),
                    ..DialectOptions::default()
                },
            ),
        };
        let Some(object) = self.object(node, path, &TLS_METADATA_HEADERS) else {
            return config;
        };
        config.inject = self
            .boolean(&object, path, "inject_client_cert_details")
            .unwrap_or(false);
        let mut fields: Vec<(String, &str)> = Vec::new();
        for &(field, default, key) in HEADER_NAMES {
            let name = match object.field(field) {
                Some(node) if node.is_null() && field == OPTIONAL_HEADER => continue,
                Some(node) if !node.is_null() => {
                    self.upstream_header_name(node, &path.field(field))
                }
                _ => Some(default),
            };
            let Some(name) = name else {
                continue;
            };
            let folded = fold_header_name(name);
            if let Some((_, other)) = fields.iter().find(|(other, _)| *other == folded) {
                let position = object
                    .field(field)
                    .map_or(node.position, |node| node.position);
                let message = format!(
                    "the header '{name}' is the same as that of '{other}' (case is ignored, \
                     and '-' and '_' are equal), expected another name"
                );
                self.report.error(position, &path.field(field), message);
                continue;
            }
            fields.push((folded, field));
            // Every key in HEADER_NAMES is one of the dialect, so this cannot fail.
            let _ = config.selection.rename(key, Some(name));
        }
        config
    }
}
