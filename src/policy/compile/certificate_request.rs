//! The certificate request of a server name.

use std::sync::Arc;

use super::ca_certificates::CaCertificates;
use super::plugins::{Contribution, Plugins};
use crate::handshake::server_name::Pattern;
use crate::handshake::{CaNames, CertificateRequest, CA_NAMES_BUDGET};
use crate::policy::document::Document;
use crate::policy::report::{Path, Report};
use crate::trust::{CaValidity, TrustStore};
use crate::Error;

/// The certificate request for a set of contributions.
///
/// CA names are sent only if every plugin that applies under the name has `send_ca_dn`: clients of
/// a plugin whose CAs are not in the list would present no certificate.
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
        .flat_map(|member| member.stores.iter().cloned())
        .collect();
    let without_ca_names = members.iter().find(|member| member.ca_names.is_none());
    let with_ca_names = members.iter().find(|member| member.ca_names.is_some());
    let ca_names = match without_ca_names {
        Some(_) => None,
        None => {
            let mut ca_positions: Vec<usize> = members
                .iter()
                .filter_map(|member| member.ca_names.as_ref())
                .flatten()
                .copied()
                .collect();
            ca_positions.sort_unstable();
            ca_positions.dedup();
            let mut named = cas.of(&ca_positions);
            let domains = members
                .iter()
                .flat_map(|member| member.stores.iter().skip(1));
            for ca in domains.flat_map(|store| store.cas()) {
                if !named.iter().any(|other| other.digest() == ca.digest()) {
                    named.push(ca.clone());
                }
            }
            // No client of such a CA is accepted. The session binding has no names.
            named.retain(|ca| ca.validity(cas.now) != CaValidity::Expired);
            Some(named)
        }
    };
    let subjects = ca_names.iter().flatten().map(|ca| ca.x509().subject_name());
    // A client that chooses its certificate by the names compares them with the issuer.
    let pinned = stores.iter().filter(|_| ca_names.is_some());
    let pinned = pinned
        .flat_map(|store| store.pinned())
        .map(|pinned| pinned.issuer_name());
    let names = CaNames::of_names(subjects.chain(pinned), CA_NAMES_BUDGET)?;
    let mut request = CertificateRequest::with_ca_names(&stores, names);
    if !members.iter().all(|member| member.resumption) {
        request = request.without_resumption();
    }

    let location = |member: &Contribution| document.plugins.get(member.plugin).map(|p| &p.location);
    if let Some(with_ca_names) = with_ca_names.and_then(|member| location(member)) {
        let path = Path::Compact(&with_ca_names.path);
        let path = path.field("config");
        let path = path.field("send_ca_dn");
        if let Some(without_ca_names) = without_ca_names.and_then(|member| location(member)) {
            report.warn(
                "server names without CA names",
                with_ca_names.position,
                &path,
                || {
                    format!(
                    "no CA names are sent for the server name '{pattern}': {} requests a certificate \
                     under the same name without 'send_ca_dn'",
                    without_ca_names.path
                )
                },
            );
        } else if request.over_budget() {
            report.warn(
                "CA-name lists over the limit",
                with_ca_names.position,
                &path,
                || {
                    format!(
                    "no CA names are sent for the server name '{pattern}': {} bytes of names are \
                     over the limit of {CA_NAMES_BUDGET}",
                    request.ca_names_bytes()
                )
                },
            );
        }
    }
    Ok(request)
}
