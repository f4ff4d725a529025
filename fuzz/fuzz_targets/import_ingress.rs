//! `resty-mtls import-ingress` on any manifests: the policy that it prints can be used, and each
//! line of its messages is harmless for a terminal.

#![no_main]

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;
use resty_mtls::command;
use resty_mtls::policy::Policy;

fuzz_target!(|bytes: &[u8]| {
    let args = ["import-ingress", "-"].map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = command::run(&args, &mut &*bytes, &mut out, &mut err).unwrap();
    let is_harmless = |c: char| c == '\n' || !c.is_control();
    for text in [&out, &err] {
        assert!(std::str::from_utf8(text).unwrap().chars().all(is_harmless));
    }
    match status {
        0 | 4 => {
            let out = std::str::from_utf8(&out).unwrap();
            let (policy, servers) = out.split_once("\n---\n").unwrap();
            assert!(Policy::from_yaml(policy.as_bytes(), "policy.yaml").is_ok());
            let count = |c: char| servers.chars().filter(|found| *found == c).count();
            assert_eq!(count('{'), count('}'));
        }
        1 => assert!(out.is_empty() && !err.is_empty()),
        other => panic!("{other}"),
    }
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
});
