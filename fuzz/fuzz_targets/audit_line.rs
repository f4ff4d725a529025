//! Reads a line of an audit log for `resty-mtls replay`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::command::audit::AuditEntry;

fuzz_target!(|line: &[u8]| {
    if let Ok(Some(entry)) = AuditEntry::parse(line) {
        assert!(!entry.decision.is_empty());
        // It becomes the name of a file.
        if let Some(digest) = entry.sha256 {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            assert!(digest.len() == 64 && digest.bytes().all(is_hex), "{digest}");
        }
    }
});
