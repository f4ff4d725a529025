//! Reads the blocks that `/mtls/blocks` lists, for `resty-mtls explain --blocks`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::command::blocks_file;

fuzz_target!(|bytes: &[u8]| {
    match blocks_file::parse(bytes) {
        Ok(blocks) => {
            for block in blocks {
                let (kind, _) = block.selector.split_once(' ').expect("two words");
                assert!(["sha256", "spki_sha256", "serial"].contains(&kind));
            }
        }
        Err(why) => assert!(!why.is_empty()),
    }
});
