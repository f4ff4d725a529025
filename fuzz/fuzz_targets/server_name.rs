//! Normalises a server name as from a client, and parses it as a pattern of a policy; reads the same
//! bytes as a pre_shared_key extension.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::handshake::server_name::{normalise, parent, Buffer, Pattern, MAX_LEN};
use resty_mtls::handshake::SniMapBuilder;
use resty_mtls::openssl_ext::session_cache::first_identity_len;

fuzz_target!(|raw: &[u8]| {
    assert_eq!(first_identity_len(raw).is_some(), raw.len() >= 4);
    let mut buffer: Buffer = [0; MAX_LEN + 1];
    if let Some(name) = normalise(raw, &mut buffer) {
        assert!(!name.is_empty() && name.len() <= MAX_LEN);
        assert!(name
            .iter()
            .all(|byte| *byte != 0 && !byte.is_ascii_uppercase()));
        assert!(parent(name).is_none_or(|parent| parent.starts_with(b".")));
    }
    if let Ok(pattern) = Pattern::parse_sni(raw) {
        assert!(raw.is_empty() || Pattern::parse(raw).as_ref() == Ok(&pattern));
    }
    let Ok(pattern) = Pattern::parse(raw) else {
        return;
    };
    let text = pattern.to_string();
    assert_eq!(Pattern::parse(text.as_bytes()).unwrap(), pattern);
    let mut map = SniMapBuilder::new();
    map.add_pattern(&pattern, 7).unwrap();
    let map = map.build();
    let name = match &pattern {
        Pattern::Exact(name) => name.clone(),
        Pattern::Wildcard(parent) => format!("x{parent}"),
        Pattern::Any => "anything.example".to_owned(),
        Pattern::Absent => unreachable!("only parse_sni returns it"),
    };
    assert_eq!(map.get(Some(name.as_bytes())), Some(7));
});
