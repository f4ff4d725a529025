//! Groups that are allowed or denied on a route (Kong: `acl`).
//!
//! Groups of consumers are given in the policy and are compared exactly. Where the group or the
//! consumer is taken from the certificate, `deny` also applies to names that a reader may consider
//! equal to the denied name.

use crate::certificate::normal_form::{lookalike_dn_key, lookalike_key};
use crate::certificate::Certificate;

/// The `acl` plugin as it applies to a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// If not empty, one of these groups is required.
    pub allow: Vec<Box<str>>,
    /// Clients with one of these groups are refused.
    pub deny: Vec<Box<str>>,
    /// [`lookalike_key`] and [`lookalike_dn_key`] of each denied group.
    lookalikes: Vec<[String; 2]>,
    /// Kong `hide_groups_header`.
    pub hide_groups_header: bool,
    /// Kong `include_consumer_groups`.
    pub include_consumer_groups: bool,
    /// Kong `always_use_authenticated_groups`.
    pub always_use_authenticated_groups: bool,
}

impl Acl {
    /// With these allowed and denied groups.
    pub fn new(allow: Vec<Box<str>>, deny: Vec<Box<str>>) -> Acl {
        Acl {
            lookalikes: deny
                .iter()
                .map(|group| [lookalike_key(group), lookalike_dn_key(group)])
                .collect(),
            allow,
            deny,
            ..Acl::default()
        }
    }

    /// Whether a reader may consider a CN of the certificate equal to a denied group. This holds
    /// for every CN without normal form.
    pub fn may_deny_cn(&self, certificate: &Certificate) -> bool {
        let mut names = certificate
            .normal_subject()
            .iter()
            .filter(|(attribute, _)| attribute.is("CN"));
        !self.deny.is_empty()
            && names.any(|(attribute, normal)| {
                let cn = lookalike_key(&String::from_utf8_lossy(&attribute.value));
                normal.is_err() || self.lookalikes.iter().any(|[denied, _]| *denied == cn)
            })
    }

    /// The same check for the subject as RFC 2253 text.
    pub fn may_deny_dn(&self, certificate: &Certificate) -> bool {
        if self.deny.is_empty() {
            return false;
        }
        let irregular = certificate
            .normal_subject()
            .iter()
            .any(|(_, normal)| normal.is_err());
        match certificate.subject_dn() {
            Ok(dn) if !irregular => {
                let dn = lookalike_dn_key(&dn);
                self.lookalikes.iter().any(|[_, denied]| *denied == dn)
            }
            _ => true,
        }
    }

    /// Whether a client with these groups is allowed. Deny takes precedence.
    pub fn allows(&self, groups: &[Box<str>]) -> bool {
        let allowed = || groups.iter().any(|group| self.allow.contains(group));
        !self.denies(groups) && (self.allow.is_empty() || allowed())
    }

    /// Whether one of these groups is denied.
    pub fn denies(&self, groups: &[Box<str>]) -> bool {
        groups.iter().any(|group| self.deny.contains(group))
    }
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Type;
    use openssl::nid::Nid;
    use openssl::x509::X509NameBuilder;

    use super::*;
    use crate::testing;

    fn groups(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn allows_deny_takes_precedence() {
        for (allow, deny, of, expected) in [
            (&["a"][..], &[][..], &["a", "b"][..], true),
            (&["a"], &[], &["b"], false),
            (&["a"], &[], &[], false),
            (&[], &["a"], &[], true),
            (&[], &["a"], &["a"], false),
            (&["a"], &["b"], &["a", "b"], false),
            (&["a"], &[], &["A"], false),
        ] {
            let acl = Acl::new(groups(allow), groups(deny));
            assert_eq!(
                acl.allows(&groups(of)),
                expected,
                "{allow:?} {deny:?} {of:?}"
            );
        }
    }

    #[test]
    fn may_deny_names_that_a_reader_may_consider_equal() {
        let ca = testing::issue("CA", None, true, 60, &[]);
        let certificate = |names: &[(Nid, &str, Asn1Type)]| {
            let mut subject = X509NameBuilder::new().unwrap();
            for (nid, value, kind) in names {
                subject
                    .append_entry_by_nid_with_type(*nid, value, *kind)
                    .unwrap();
            }
            let x509 = testing::issue_with_subject(&ca, &subject.build(), None);
            Certificate::new(x509, testing::stack(&[])).unwrap()
        };
        let acl = Acl::new(
            Vec::new(),
            groups(&["Evil Inc", "CN=Evil Inc,O=Example\\, Ltd"]),
        );
        let cn = |value| (Nid::COMMONNAME, value, Asn1Type::UTF8STRING);
        let o = |value| (Nid::ORGANIZATIONNAME, value, Asn1Type::UTF8STRING);
        for (names, by_cn, by_dn) in [
            (&[o("Example, Ltd"), cn("Evil Inc")][..], true, true),
            (&[o("EXAMPLE, ltd "), cn("evil  inc")], true, true),
            (&[o("Example, Ltd"), cn("Evil Inc.")], false, false),
            (&[cn("good"), cn("EVIL INC")], true, false),
            (&[cn("good"), o("x\ny")], false, true),
            (&[cn("good\0")], true, true),
            (&[o("Example")], false, false),
            (
                &[(Nid::COMMONNAME, "good\u{e4}", Asn1Type::TELETEXSTRING)],
                true,
                true,
            ),
        ] {
            let certificate = certificate(names);
            assert_eq!(acl.may_deny_cn(&certificate), by_cn, "{names:?}");
            assert_eq!(acl.may_deny_dn(&certificate), by_dn, "{names:?}");
            let none = Acl::new(groups(&["Evil Inc"]), Vec::new());
            assert!(!none.may_deny_cn(&certificate) && !none.may_deny_dn(&certificate));
        }
    }
}
