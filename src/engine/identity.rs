//! Maps a trusted certificate to an identity, and authorizes the identity for a route.

use crate::certificate::Certificate;
use crate::decision::Identity;
use crate::headers::kong;
use crate::identity::{subject_names, Acl, Consumer, RuleSubject};
use crate::policy::{Auth, GroupBy, Plan, Policy};

impl Policy {
    /// The identity of a trusted certificate; `cas` are the ids of the CAs in its chain. `None`
    /// when it maps to no consumer.
    pub(super) fn identify(
        &self,
        auth: &Auth,
        certificate: &Certificate,
        cas: &[[u8; 32]],
    ) -> Option<Identity> {
        let Some(lookup) = &auth.lookup else {
            return Some(Identity::Holder);
        };
        let names = subject_names(certificate, &lookup.dirname, lookup.upn).names;
        let consumers = &self.consumers;
        let untied = |names: &[_]| consumers.find_untied(names, lookup.by, lookup.header);
        let found = consumers.find_tied(&names, cas, lookup.header);
        let found = match auth.spiffe_id(certificate) {
            None => found.or_else(|| untied(&names)),
            Some(id) => {
                // The CAs of a trust domain are trusted for its SPIFFE IDs. They may write any other
                // name into a certificate, also that of a consumer who is no workload of theirs.
                let id_alone: Vec<_> = names
                    .iter()
                    .filter(|name| name.text() == id.as_str())
                    .cloned()
                    .collect();
                let found = found.or_else(|| untied(&id_alone));
                if found.is_none() && untied(&names).is_some() {
                    return None;
                }
                found
            }
        };
        match found {
            Some(found) => Some(Identity::Consumer(found.consumer, found.credential)),
            None => lookup
                .default
                .map(|consumer| Identity::Consumer(consumer, None)),
        }
    }

    /// Checks `client-cert-acl`, and `acl` unless the token decides about the consumer, for a trusted
    /// certificate or for an anonymous consumer. Returns which rule would deny the route to the
    /// client, for the log, if its plugin has `enforce: report`.
    ///
    /// # Errors
    /// Which rule denies it.
    pub(super) fn authorize(
        &self,
        plan: &Plan,
        subject: Option<RuleSubject<'_>>,
        identity: Identity,
    ) -> Result<Option<String>, String> {
        let mut reported = None;
        if !plan.checks_acl_with_token() {
            match self.check_acl(plan, subject.map(|subject| subject.certificate), identity) {
                Err(why) if plan.report_only.acl => reported = Some(why),
                checked => checked?,
            }
        }
        if let Some(rules) = &plan.rules {
            let checked = match subject {
                Some(subject) => rules
                    .check(subject)
                    .map_err(|why| format!("client-cert-acl: {why}")),
                None => Err("client-cert-acl: no trusted certificate".to_owned()),
            };
            match checked {
                Err(why) if plan.report_only.rules => reported = reported.or(Some(why)),
                checked => checked?,
            }
        }
        Ok(reported)
    }

    /// Whether a plan refuses every client without a certificate.
    pub(crate) fn requires_certificate(&self, plan: &Plan) -> bool {
        let Some(auth) = &plan.auth else {
            return false;
        };
        match auth.anonymous {
            Some(consumer) => {
                let identity = Identity::Anonymous(consumer);
                self.authorize(plan, None, identity).is_err()
            }
            None => !plan.passes_unauthenticated(),
        }
    }

    /// Whether a plan refuses every request without a token.
    pub(crate) fn requires_token(&self, plan: &Plan) -> bool {
        let Some(token_auth) = &plan.token_auth else {
            return false;
        };
        // A certificate may give the client a consumer or groups, for which `acl` is checked.
        let needs_identity = plan.enforces_acl() && plan.auth.is_none();
        let anonymous = token_auth.anonymous.as_deref();
        match anonymous.and_then(|id| self.consumers.by_id_or_username(id)) {
            Some(consumer) => {
                let identity = Identity::Anonymous(consumer);
                needs_identity && self.check_acl(plan, None, identity).is_err()
            }
            None => !plan.report_only.token || needs_identity,
        }
    }

    /// Checks `acl`. `certificate` is given if it decided about the identity.
    ///
    /// # Errors
    /// As [`Policy::authorize`].
    pub(super) fn check_acl(
        &self,
        plan: &Plan,
        certificate: Option<&Certificate>,
        identity: Identity,
    ) -> Result<(), String> {
        let Some(acl) = &plan.acl else {
            return Ok(());
        };
        let groups = self.groups(plan, certificate, identity);
        if !acl.allows(&groups) {
            return Err(format!("acl: groups ({})", groups.join(", ")));
        }
        match certificate {
            Some(certificate) => self.check_ambiguous_names(plan, acl, certificate, identity),
            None => Ok(()),
        }
    }

    /// Refuses a client whose names, in another reading of the certificate, belong to a denied
    /// group.
    fn check_ambiguous_names(
        &self,
        plan: &Plan,
        acl: &Acl,
        certificate: &Certificate,
        identity: Identity,
    ) -> Result<(), String> {
        let (Some(auth), false) = (&plan.auth, acl.deny.is_empty()) else {
            return Ok(());
        };
        match (identity, &auth.lookup) {
            (Identity::Holder, _) => {
                let denied = match auth.group_by {
                    Some(GroupBy::Cn) => acl.may_deny_cn(certificate),
                    Some(GroupBy::Dn) => acl.may_deny_dn(certificate),
                    None => false,
                };
                match denied {
                    true => Err("acl: the subject may be read as a denied group".to_owned()),
                    false => Ok(()),
                }
            }
            (Identity::Consumer(consumer, credential), Some(lookup)) => {
                let found = subject_names(certificate, &lookup.dirname, lookup.upn);
                let default = credential.is_none()
                    && lookup.default == Some(consumer)
                    && !self.consumers.is_named(consumer, &found.names, lookup.by);
                if default && found.irregular {
                    return Err(
                        "acl: a name that has no normal form may be that of a denied consumer"
                            .to_owned(),
                    );
                }
                let denied = |consumer: &Consumer| {
                    let counted = match acl.include_consumer_groups {
                        true => &consumer.consumer_groups[..],
                        false => &[],
                    };
                    acl.denies(&consumer.groups) || acl.denies(counted)
                };
                let mut others = self
                    .consumers
                    .lookalikes(&found.names, lookup.by, lookup.header);
                match others.any(denied) {
                    true => Err("acl: a name may be read as that of a denied consumer".to_owned()),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The groups of a client on a route.
    pub fn groups(
        &self,
        plan: &Plan,
        certificate: Option<&Certificate>,
        identity: Identity,
    ) -> Vec<Box<str>> {
        if let Some(consumer) = identity
            .consumer()
            .and_then(|index| self.consumers.get(index))
        {
            let mut groups = consumer.groups.clone();
            if plan
                .acl
                .as_ref()
                .is_some_and(|acl| acl.include_consumer_groups)
            {
                groups.extend(consumer.consumer_groups.iter().cloned());
            }
            return groups;
        }
        let by = plan.auth.as_ref().and_then(|auth| auth.group_by);
        let (Identity::Holder, Some(by), Some(certificate)) = (identity, by, certificate) else {
            return Vec::new();
        };
        let group = match by {
            GroupBy::Cn => certificate
                .normal_subject()
                .iter()
                .find(|(attribute, _)| attribute.is("CN"))
                .and_then(|(_, normal)| normal.as_ref().ok())
                .and_then(|cn| String::from_utf8(cn.as_bytes().to_vec()).ok()),
            GroupBy::Dn => certificate
                .normal_subject()
                .iter()
                .all(|(_, normal)| normal.is_ok())
                .then(|| certificate.subject_dn().ok())
                .flatten(),
        };
        group
            .filter(|group| !group.is_empty())
            .map(|group| vec![group.into()])
            .unwrap_or_default()
    }

    /// The header lines with the identity of the client, for the upstream.
    pub fn identity_lines(
        &self,
        plan: &Plan,
        certificate: Option<&Certificate>,
        identity: Identity,
    ) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let mut line = |name, value: Option<&str>| {
            // A value that no header can carry is left out, not cut.
            if let Some(value) = value.filter(|value| kong::is_header_value(value)) {
                lines.push((name, value.to_owned()));
            }
        };
        if let Some(consumer) = identity
            .consumer()
            .and_then(|index| self.consumers.get(index))
        {
            line(kong::CONSUMER_ID, Some(&consumer.id));
            line(kong::CONSUMER_CUSTOM_ID, consumer.custom_id.as_deref());
            line(kong::CONSUMER_USERNAME, consumer.username.as_deref());
            let credential = identity
                .credential()
                .and_then(|index| self.consumers.credential(index));
            line(
                kong::CREDENTIAL_IDENTIFIER,
                credential.and_then(|found| found.id.as_deref()),
            );
            if matches!(identity, Identity::Anonymous(_)) {
                line(kong::ANONYMOUS_CONSUMER, Some("true"));
            }
        }
        if plan.acl.as_ref().is_some_and(|acl| !acl.hide_groups_header) {
            let groups = self.groups(plan, certificate, identity);
            let name = match identity {
                Identity::Consumer(..) => kong::CONSUMER_GROUPS,
                _ => kong::AUTHENTICATED_GROUPS,
            };
            if !groups.is_empty() {
                // A client may have chosen its CN, so a comma inside one is escaped: it must not
                // read as two groups. A DN is the only group and has its own escapes.
                let dn = plan.auth.as_ref().and_then(|auth| auth.group_by) == Some(GroupBy::Dn)
                    && identity == Identity::Holder;
                let groups: Vec<String> = groups
                    .iter()
                    .map(|group| match dn {
                        true => group.to_string(),
                        false => group.replace('%', "%25").replace(',', "%2C"),
                    })
                    .collect();
                line(name, Some(&groups.join(", ")));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use openssl::x509::{X509NameBuilder, X509};

    use super::*;
    use crate::certificate::signed_content;
    use crate::testing::{self, stack, Issued, NOW};

    const ROOT: &str = "11111111-1111-4111-8111-111111111111";
    const PARTNER: &str = "22222222-2222-4222-8222-222222222222";

    fn pem(certificate: &X509) -> String {
        String::from_utf8(certificate.to_pem().unwrap()).unwrap()
    }

    fn policy(cas: &[(&str, &X509)], rest: &str) -> Policy {
        let entry = |(id, ca): &(&str, &X509)| format!("- {{id: {id}, cert: {:?}}}\n", pem(ca));
        let cas: String = cas.iter().map(entry).collect();
        let text = format!("_format_version: '3.0'\nca_certificates:\n{cas}{rest}");
        Policy::from_yaml(text.as_bytes(), "p").unwrap_or_else(|errors| panic!("{errors:#?}"))
    }

    /// The certificate with the other encoding of its issuer's signature.
    fn twin_of(certificate: &X509, issuer: &Issued) -> X509 {
        let order = signed_content::ec_order(&issuer.x509.public_key().unwrap()).unwrap();
        let der = certificate.to_der().unwrap();
        X509::from_der(&signed_content::alternate_der(&der, &order).unwrap()).unwrap()
    }

    #[test]
    fn identify_finds_the_ca_of_a_credential_by_any_of_its_certificates() {
        let root = testing::issue("Root", None, true, 60, &[]);
        let partner = testing::issue("Partner", Some(&root), true, 60, &[]);
        let leaf = testing::issue("admin", Some(&partner), false, 60, &[]);
        let reissued = testing::issue_for("Partner", Some(&root), true, 90, &[], &partner.key);
        let junk = testing::issue("Partner", Some(&root), true, 60, &[]);
        let rest = format!(
            "plugins: [{{name: mtls-auth, config: {{ca_certificates: [{ROOT}]}}}}]\n\
             consumers: [{{username: partner-admin}}, {{username: house-admin}}]\n\
             mtls_auth_credentials:\n\
             - {{subject_name: admin, consumer: partner-admin, ca_certificate: {PARTNER}}}\n\
             - {{subject_name: admin, consumer: house-admin}}\n"
        );
        let policy = policy(&[(ROOT, &root.x509), (PARTNER, &partner.x509)], &rest);
        let auth = policy.plans[0].auth.as_ref().unwrap();
        let of = |leaf: &X509, sent: &[&X509]| {
            let certificate = Certificate::new(leaf.clone(), stack(sent)).unwrap();
            let verdict = auth
                .store
                .verify(certificate.leaf(), certificate.intermediates(), NOW)
                .unwrap();
            assert!(verdict.is_success(), "{}", verdict.text());
            let identity = policy.identify(auth, &certificate, verdict.cas()).unwrap();
            let consumer = policy.consumers.get(identity.consumer().unwrap()).unwrap();
            consumer.username.clone().unwrap()
        };
        let flipped = twin_of(&partner.x509, &root);
        let sent: [&[&X509]; 6] = [
            &[&partner.x509],
            &[&flipped],
            &[&reissued.x509],
            &[&junk.x509, &flipped],
            &[&flipped, &partner.x509],
            &[&root.x509, &reissued.x509, &junk.x509],
        ];
        for leaf in [&leaf.x509, &twin_of(&leaf.x509, &partner)] {
            for (number, sent) in sent.iter().enumerate() {
                assert_eq!(&*of(leaf, sent), "partner-admin", "{number}");
            }
        }
        let direct = testing::issue("admin", Some(&root), false, 60, &[]);
        assert_eq!(&*of(&direct.x509, &[&flipped]), "house-admin");
    }

    #[test]
    fn identify_maps_svids_by_their_spiffe_id_unless_a_credential_has_the_ca() {
        let root = testing::issue("Root", None, true, 60, &[]);
        let rest = |config: &str| {
            format!(
                "trust_domains: [{{name: a.example, ca_certificates: [{ROOT}]}}]\n\
                 plugins: [{{name: mtls-auth, config: {{trust_domains: [a.example]{config}}}}}]\n\
                 consumers: [{{username: 'spiffe://a.example/by-name'}}, {{username: workload}}, \
                 {{username: admin}}, {{username: tied}}, {{username: other}}]\n\
                 mtls_auth_credentials:\n\
                 - {{subject_name: 'spiffe://a.example/ns/x', consumer: workload}}\n\
                 - {{subject_name: root.example, consumer: admin}}\n\
                 - {{subject_name: tied.example, consumer: tied, ca_certificate: {ROOT}}}\n"
            )
        };
        let strict = policy(&[(ROOT, &root.x509)], &rest(""));
        let with_default = policy(&[(ROOT, &root.x509)], &rest(", default_consumer: other"));
        let subject = X509NameBuilder::new().unwrap().build();
        let of = |policy: &Policy, id: &str, dns: &str| {
            let san = testing::san_extension(&[(0x86, id.as_bytes()), (0x82, dns.as_bytes())]);
            let leaf = testing::issue_with_subject(&root, &subject, Some(&san));
            let certificate = Certificate::new(leaf, stack(&[])).unwrap();
            let auth = policy.plans[0].auth.as_ref().unwrap();
            let store = auth.store_of(&certificate).unwrap();
            let verdict = store.verify(certificate.leaf(), certificate.intermediates(), NOW);
            let identity = policy.identify(auth, &certificate, verdict.unwrap().cas())?;
            let consumer = policy.consumers.get(identity.consumer().unwrap()).unwrap();
            consumer.username.clone()
        };
        for (id, dns, strictly, by_default) in [
            ("ns/x", "plain.example", Some("workload"), Some("workload")),
            ("ns/x", "root.example", Some("workload"), Some("workload")),
            (
                "by-name",
                "admin",
                Some("spiffe://a.example/by-name"),
                Some("spiffe://a.example/by-name"),
            ),
            ("ns/y", "tied.example", Some("tied"), Some("tied")),
            // The names of consumers that are not this workload: not those, and not the default.
            ("ns/y", "root.example", None, None),
            ("ns/y", "admin", None, None),
            ("ns/y", "plain.example", None, Some("other")),
        ] {
            let id = format!("spiffe://a.example/{id}");
            assert_eq!(of(&strict, &id, dns).as_deref(), strictly, "{id} {dns}");
            assert_eq!(
                of(&with_default, &id, dns).as_deref(),
                by_default,
                "{id} {dns}"
            );
        }
    }

    #[test]
    fn authorize_allow_of_a_sha256_matches_these_bytes_and_deny_both_encodings() {
        let root = testing::issue("Root", None, true, 60, &[]);
        let leaf = testing::issue("leaf", Some(&root), false, 60, &[]);
        let other = testing::issue("other", Some(&root), false, 60, &[]);
        let digest = Certificate::new(leaf.x509.clone(), stack(&[])).unwrap();
        let digest = digest.fingerprint_sha256();
        let permits = |rules: &str| {
            let rest = format!(
                "plugins:\n\
                 - {{name: mtls-auth, config: {{ca_certificates: [{ROOT}], \
                 skip_consumer_lookup: true}}}}\n\
                 - {{name: client-cert-acl, config: {{{rules}}}}}\n"
            );
            let policy = policy(&[(ROOT, &root.x509)], &rest);
            let plan = &policy.plans[0];
            let twin = twin_of(&leaf.x509, &root);
            [&leaf.x509, &twin, &other.x509].map(|leaf| {
                let certificate = Certificate::new(leaf.clone(), stack(&[])).unwrap();
                let store = &plan.auth.as_ref().unwrap().store;
                let verdict = store
                    .verify(leaf, certificate.intermediates(), NOW)
                    .unwrap();
                assert!(verdict.is_success());
                certificate.set_alternate_sha256(verdict.alternate_sha256().unwrap());
                let subject = RuleSubject {
                    certificate: &certificate,
                    cas: verdict.cas(),
                    spiffe_id: None,
                };
                let permitted = policy.authorize(plan, Some(subject), Identity::Holder);
                permitted.is_ok()
            })
        };
        let this = format!("{{name: r, sha256: {digest}}}");
        let not = format!("{{name: r, not: {{sha256: {digest}}}}}");
        let not_not = format!("{{name: r, not: {{not: {{sha256: {digest}}}}}}}");
        for (rules, expected) in [
            (format!("allow: [{this}]"), [true, false, false]),
            (format!("deny: [{this}]"), [false, false, true]),
            (format!("allow: [{not}]"), [false, false, true]),
            (format!("deny: [{not}]"), [true, false, false]),
            (format!("allow: [{not_not}]"), [true, false, false]),
            (format!("deny: [{not_not}]"), [false, false, true]),
        ] {
            assert_eq!(permits(&rules), expected, "{rules}");
        }
    }
}
