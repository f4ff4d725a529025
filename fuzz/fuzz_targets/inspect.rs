//! `resty-mtls inspect` on any file: its output must be harmless for a terminal.

#![no_main]

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;
use resty_mtls::command;

fuzz_target!(|bytes: &[u8]| {
    // A PKCS #12 file: its password would be read from the terminal, and the file chooses how long
    // the derivation of the key takes.
    if bytes
        .iter()
        .take(8)
        .collect::<Vec<_>>()
        .windows(3)
        .any(|part| part == [&2, &1, &3])
    {
        return;
    }
    for option in ["--dialect=xfcc", "--json"] {
        let args = ["inspect", option, "-"].map(OsString::from);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = command::run(&args, &mut &*bytes, &mut out, &mut err).unwrap();
        let is_harmless = |c: char| c == '\n' || !c.is_control();
        for text in [&out, &err] {
            assert!(std::str::from_utf8(text).unwrap().chars().all(is_harmless));
        }
        assert_eq!(
            (status == 0, status == 1),
            (!out.is_empty(), !err.is_empty())
        );
    }
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
});
