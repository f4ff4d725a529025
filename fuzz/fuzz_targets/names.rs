//! Normalises a name of a certificate, and compares it with itself, with other spellings of it, and
//! with another name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::certificate::normal_form::{self, NormalForm, NormalName};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let mut names = rest.splitn(2, |byte| *byte == b'\n');
    let raw = names.next().unwrap_or_default();
    let other = names.next().unwrap_or_default();
    let form: fn(&[u8]) -> NormalForm = match kind % 6 {
        0 => normal_form::dns,
        1 => normal_form::email,
        2 => normal_form::uri,
        3 => normal_form::uri_prefix,
        4 => normal_form::ip,
        _ => |raw| match std::str::from_utf8(raw) {
            Ok(text) => normal_form::text(text),
            Err(_) => normal_form::text("\0"),
        },
    };
    if let Ok(text) = std::str::from_utf8(raw) {
        let key = normal_form::lookalike_key(text);
        assert_eq!(
            normal_form::lookalike_key(&text.to_ascii_lowercase()),
            key,
            "{text:?}"
        );
        normal_form::lookalike_dn_key(text);
    }
    let Ok(name) = form(raw) else {
        return;
    };
    // The normal form of a normal form is itself.
    assert_eq!(form(name.as_bytes()).as_ref(), Ok(&name));
    assert_eq!(name.is(&name), Some(true));
    match kind % 6 {
        0 => {
            assert!(name.as_bytes().len() <= 253);
            let ldh = |byte: &u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(byte)
            };
            assert!(name.as_bytes().iter().all(ldh));
            assert_same_name(form, &name, &name.as_bytes().to_ascii_uppercase());
            assert_same_name(form, &name, &[name.as_bytes(), b"."].concat());
        }
        2 => uri(raw, &name),
        _ => {}
    }
    if let Ok(other) = form(other) {
        assert_eq!(name.is(&other), other.is(&name));
        if name.as_bytes() == other.as_bytes() {
            assert_eq!(name.is(&other), Some(true));
        }
    }
});

fn assert_same_name(form: fn(&[u8]) -> NormalForm, name: &NormalName, raw: &[u8]) {
    // A longer spelling can be over a limit; then it has no normal form.
    if let Ok(other) = form(raw) {
        assert_eq!(other.is(name), Some(true));
    }
}

fn uri(raw: &[u8], name: &NormalName) {
    let text = std::str::from_utf8(name.as_bytes()).unwrap();
    assert!(text.is_ascii() && !text.contains(['?', '#', '\\', ' ', '\0']));
    assert!(!raw.contains(&b'?') && !raw.contains(&b'#'));
    let (scheme, rest) = text.split_once(':').unwrap();
    assert!(!scheme.contains(|c: char| c.is_ascii_uppercase()));
    let path = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            assert!(!authority.is_empty() && !authority.contains('@'));
            assert!(!authority.contains(|c: char| c.is_ascii_uppercase()));
            path
        }
        None => rest,
    };
    assert!(!path.contains("//") && !path.contains("%2F") && !path.contains("%5C"));
    assert!(path
        .split('/')
        .all(|segment| segment != "." && segment != ".."));
    // The same URI with letters and digits of the path escaped, and scheme and authority in upper
    // case.
    let escaped: String = path
        .chars()
        .enumerate()
        .map(|(index, c)| {
            let after =
                |back: usize| index >= back && path.as_bytes().get(index - back) == Some(&b'%');
            match c.is_ascii_alphanumeric() && !after(1) && !after(2) {
                true => format!("%{:02x}", c as u32),
                false => c.to_string(),
            }
        })
        .collect();
    let head = &text[..text.len() - path.len()];
    assert_same_name(
        normal_form::uri,
        name,
        format!("{}{escaped}", head.to_ascii_uppercase()).as_bytes(),
    );
}
