//! Reads a file of cases for `resty-mtls simulate`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::policy::cases;

fuzz_target!(|text: &[u8]| {
    match cases::read(text, "cases.yaml") {
        Ok(cases) => assert!(cases.len() <= cases::MAX_CASES),
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            for diagnostic in diagnostics {
                let line = diagnostic.to_string();
                assert!(!line.contains('\n'), "{line}");
            }
        }
    }
});
