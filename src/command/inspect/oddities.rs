//! What is odd about a certificate, in sentences.

use super::description::{name_values, Description};
use crate::certificate::spiffe::Svid;
use crate::certificate::{name, san, serial, San};
use crate::openssl_ext::x509 as ext;
use crate::trust::revocation_urls;

/// Most names that `mtls.client()` has, and most attributes.
const MAX_NAMES: usize = 1000;
/// Most octets of a serial number (RFC 5280 section 4.1.2.2).
const MAX_SERIAL: usize = 20;
/// Security in bits of a key below which `auth_level: 2`, the default, refuses it.
const DEFAULT_BITS: u32 = 112;
/// Security in bits of SHA-1, and less.
const WEAK_DIGEST_BITS: u32 = 64;
const DAY: i64 = 86_400;
/// 9999-12-31T23:59:59Z: no well-defined end (RFC 5280 section 4.1.2.5).
const NO_END: i64 = 253_402_300_799;

/// The oddities, in the order of the certificate's fields.
pub(super) fn of(description: &Description<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |oddity: String| found.push(oddity);
    version_and_serial(description, &mut add);
    dates(description, &mut add);
    names(description, &mut add);
    key_and_signature(description, &mut add);
    extensions(description, &mut add);
    openssl::error::ErrorStack::get();
    found
}

fn version_and_serial(description: &Description<'_>, add: &mut dyn FnMut(String)) {
    let leaf = description.leaf();
    match leaf.version() {
        2 => {}
        version => add(format!(
            "it has version {}, expected 3",
            version.saturating_add(1)
        )),
    }
    let number = leaf.serial_number();
    match serial::octets(number).len() {
        0 => add("its serial number is 0".to_owned()),
        octets if octets > MAX_SERIAL => add(format!(
            "its serial number has {octets} octets, over the limit of {MAX_SERIAL}"
        )),
        _ => {}
    }
    if serial::is_negative(number) {
        add("its serial number is negative".to_owned());
    }
}

fn dates(description: &Description<'_>, add: &mut dyn FnMut(String)) {
    let now = description.now;
    let (from, until) = (description.not_before, description.not_after);
    if from.is_none() {
        add("its notBefore cannot be read".to_owned());
    }
    if until.is_none() {
        add("its notAfter cannot be read".to_owned());
    }
    if let (Some(from), Some(until)) = (from, until) {
        if from > until {
            add("its notBefore is later than its notAfter".to_owned());
        }
    }
    if from.is_some_and(|from| from > now) {
        add("it is not valid yet".to_owned());
    }
    match until {
        Some(until) if until <= now => add("it has expired".to_owned()),
        Some(NO_END) => add("its notAfter is 9999-12-31: it has no end".to_owned()),
        Some(until) if until.saturating_sub(now) < 30 * DAY => add(format!(
            "it ends in {} days",
            until.saturating_sub(now) / DAY
        )),
        _ => {}
    }
}

fn names(description: &Description<'_>, add: &mut dyn FnMut(String)) {
    let (certificate, leaf) = (description.certificate, description.leaf());
    let san = certificate.san();
    let subject_entries = leaf.subject_name().entries().count();
    for (what, count) in [
        ("subject alternative names", san.len()),
        ("attributes in its subject", certificate.subject().len()),
    ] {
        if count > MAX_NAMES {
            add(format!(
                "it has {count} {what}, over 1,000: mtls.client() has none of them"
            ));
        }
    }
    if certificate.subject().len() != subject_entries {
        add("an attribute of its subject is not text".to_owned());
    }
    if certificate.subject_dn().is_err() || certificate.issuer_dn().is_err() {
        add("OpenSSL cannot print its subject or issuer".to_owned());
    }
    if certificate.subject().iter().filter(|a| a.is("CN")).count() > 1 {
        add("its subject has several common names".to_owned());
    }
    if leaf.issuer_name().entries().next().is_none() {
        add("its issuer is empty".to_owned());
    }
    if subject_entries == 0 && !certificate.has_san() {
        add("it has neither a subject nor subject alternative names".to_owned());
    }
    if san::is_unreadable(leaf) {
        add("its subjectAltName extension cannot be read".to_owned());
    } else if certificate.has_san() && leaf.subject_alt_names().is_none_or(|all| all.is_empty()) {
        add("its subjectAltName extension has no names".to_owned());
    }
    let upns = san::user_principal_names(leaf);
    if upns.iter().any(Option::is_none) {
        add("a user principal name is no UTF8String".to_owned());
    }
    let others = leaf.subject_alt_names().map_or(0, |all| all.len());
    if others > san.len() + upns.len() && !san::is_unreadable(leaf) {
        add(format!(
            "it has {} subject alternative names of types that are not shown",
            others - san.len() - upns.len()
        ));
    }
    let has_control = |value: &[u8]| {
        let text = String::from_utf8_lossy(value);
        text.chars().any(char::is_control)
    };
    let mut upn_values = upns.iter().flatten().cloned();
    if name_values(certificate).any(|value| has_control(&value))
        || upn_values.any(|value| has_control(&value))
    {
        add("a name has control characters".to_owned());
    }
    let is_ia5 = |name: &San| match name {
        San::Dns(value) | San::Email(value) | San::Uri(value) => value.is_ascii(),
        San::Ip(octets) => matches!(octets.len(), 4 | 16),
        San::Directory { .. } => true,
    };
    if !san.iter().all(is_ia5) {
        add("a subject alternative name is not ASCII, or no IP address".to_owned());
    }
    if name::attributes(leaf.subject_name()).len() == subject_entries
        && certificate.subject().iter().any(|attribute| {
            let text = String::from_utf8_lossy(&attribute.value);
            text.trim() != text || text.is_empty()
        })
    {
        add("an attribute of its subject is empty, or has blanks at an end".to_owned());
    }
    if let Svid::Invalid(why) = certificate.svid() {
        add(format!("it has a SPIFFE ID and is no SVID: {why}"));
    }
}

fn key_and_signature(description: &Description<'_>, add: &mut dyn FnMut(String)) {
    let bits = description.key_security_bits();
    match &description.key {
        None => add("its public key cannot be read".to_owned()),
        Some(key) if bits < DEFAULT_BITS => {
            let size = key.bits();
            add(format!(
                "its key of {size} bits is too short for 'auth_level: 2', the default"
            ));
        }
        Some(_) => {}
    }
    let signature = description.signature();
    match ext::signature_security_bits(description.leaf()) {
        None => add(format!("its signature algorithm is unknown: {signature}")),
        Some(bits) if bits <= WEAK_DIGEST_BITS && !description.is_self_signed => {
            add(format!("its signature has a weak digest: {signature}"))
        }
        Some(_) => {}
    }
}

fn extensions(description: &Description<'_>, add: &mut dyn FnMut(String)) {
    let (certificate, leaf) = (description.certificate, description.leaf());
    if ext::has_invalid_extension(leaf) {
        add(
            "OpenSSL verifies no chain with it: an extension cannot be read or is there twice"
                .to_owned(),
        );
    }
    if ext::has_unknown_critical_extension(leaf) {
        add("OpenSSL verifies no chain with it: it has an unknown critical extension".to_owned());
    }
    let is_ca = ext::is_ca(leaf);
    if description.is_self_signed && !is_ca {
        add("it is signed with its own key: trusted only as pinned certificate".to_owned());
    }
    if !description.is_self_signed && leaf.authority_key_id().is_none() {
        add("it has no authorityKeyIdentifier (AKI)".to_owned());
    }
    if is_ca && leaf.subject_key_id().is_none() {
        add("it is a CA without subjectKeyIdentifier".to_owned());
    }
    if !is_ca && ext::may_sign_for_others(leaf) && !ext::has_invalid_extension(leaf) {
        add("its keyUsage allows to sign certificates or CRLs, and it is no CA".to_owned());
    }
    if certificate.has_extended_key_usage() && certificate.extended_key_usage().is_empty() {
        add("its extendedKeyUsage extension cannot be read, or is empty".to_owned());
    }
    if let Some(url) = revocation_urls::unusable(leaf) {
        add(format!(
            "no URL for its revocation status can be used: {url}"
        ));
    }
}
