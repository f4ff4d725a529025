//! What the handshake does under a server name.

use std::sync::Arc;

use super::ca_certificates::CaCertificates;
use super::plugins::{Contribution, Plugins};
use crate::handshake::server_name::Pattern;
use crate::handshake::{CertificateRequest, CA_NAMES_BUDGET};
use crate::policy::document::Document;
use crate::policy::report::{Path, Report};
use crate::trust::TrustStore;
use crate::Error;

/// What the handshake does for a set of contributions.
///
/// CA names are sent only if every plugin that can be reached under the name wants its own sent:
/// a list without the CAs of one plugin would keep the clients of that plugin from presenting a
/// certificate.
pub(super) fn certificate_request(
    document: &Document<'_>,
    cas: &CaCertificates,
    plugins: &Plugins<'_>,
    members: &[u32],
    pattern: &Pattern,
    report: &mut Report,
) -> Result<CertificateRequest, Error> {
    let members: Vec<&Contribution> = members
        .iter()
        .filter_map(|&member| plugins.contributions.get(member as usize))
        .collect();
    let stores: Vec<Arc<TrustStore>> = members
        .iter()
        .filter_map(|member| member.store.clone())
        .collect();
    let silent = members.iter().find(|member| member.sent.is_none());
    let sender = members.iter().find(|member| member.sent.is_some());
    let sent = match silent {
        Some(_) => None,
        None => {
            let mut sent: Vec<usize> = members
                .iter()
                .filter_map(|member| member.sent.as_ref())
                .flatten()
                .copied()
                .collect();
            sent.sort_unstable();
            sent.dedup();
            Some(cas.of(&sent))
        }
    };
    let mut ask = CertificateRequest::new(&stores, sent.as_deref(), CA_NAMES_BUDGET)?;
    if !members.iter().all(|member| member.resumption) {
        ask = ask.without_resumption();
    }

    let location = |member: &Contribution| document.plugins.get(member.plugin).map(|p| &p.location);
    if let Some(sender) = sender.and_then(|sender| location(sender)) {
        let path = Path::Compact(&sender.path);
        let path = path.field("config");
        let path = path.field("send_ca_dn");
        if let Some(silent) = silent.and_then(|silent| location(silent)) {
            report.warn(
                "server names without CA names",
                sender.position,
                &path,
                || {
                    format!(
                    "no CA names are sent for the server name '{pattern}': {} asks under the same \
                     name and sends none",
                    silent.path
                )
                },
            );
        } else if ask.over_budget() {
            report.warn(
                "CA-name lists over the limit",
                sender.position,
                &path,
                || {
                    format!(
                    "no CA names are sent for the server name '{pattern}': {} bytes of names are \
                     over the limit of {CA_NAMES_BUDGET}",
                    ask.ca_names_bytes()
                )
                },
            );
        }
    }
    Ok(ask)
}
