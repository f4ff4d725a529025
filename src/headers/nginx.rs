//! nginx's `$ssl_client_*` variables, and the four headers that ingress-nginx sets from them.
//!
//! Source: nginx `src/event/ngx_event_openssl.c`; ingress-nginx `nginx.tmpl`. The other variables
//! are set if the operator names a header for them. Values equal nginx's, except that a serial of
//! more than 35 octets stays on one line, where nginx breaks the header, and that a `_legacy` name
//! that could be read as another name is left out.
//! Readers: applications behind ingress-nginx, Keycloak (`nginx`), Tomcat's SSLValve, Vault
//! (`URL,DER`), NanoMDM.
//! No certificate: `ssl-client-verify: NONE`, no other header. Not verified: `FAILED:<reason>`, and
//! `FAILED:not verified`, which nginx does not have, where the route does not verify certificates.

use super::common::{
    days_left, issuer_dn, not_after, not_before, pem_escaped, serial_hex, sha1, subject_dn, verdict,
};
use super::header::{Header, RenderResult};
use super::{ClientInfo, DialectOptions};
use crate::certificate::name;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("ssl_client_escaped_cert", "ssl-client-cert", pem_escaped),
    Header::new("ssl_client_verify", "ssl-client-verify", verdict),
    Header::new("ssl_client_s_dn", "ssl-client-subject-dn", subject_dn),
    Header::new("ssl_client_i_dn", "ssl-client-issuer-dn", issuer_dn),
    Header::unnamed("ssl_client_s_dn_legacy", subject_dn_legacy),
    Header::unnamed("ssl_client_i_dn_legacy", issuer_dn_legacy),
    Header::unnamed("ssl_client_serial", serial_hex),
    Header::unnamed("ssl_client_fingerprint", sha1),
    Header::unnamed("ssl_client_v_start", not_before),
    Header::unnamed("ssl_client_v_end", not_after),
    Header::unnamed("ssl_client_v_remain", days_left).changes_daily(),
];

/// `$ssl_client_s_dn_legacy`.
pub(super) fn subject_dn_legacy(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| name::oneline(certificate.leaf().subject_name()))
}

/// `$ssl_client_i_dn_legacy`.
pub(super) fn issuer_dn_legacy(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| name::oneline(certificate.leaf().issuer_name()))
}
