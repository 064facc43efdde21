//! Any bytes in any content coding: nothing panics and nothing above the limit comes out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollpass::protocol::body::decode;

const LIMIT: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    let Some((coding, bytes)) = data.split_first() else { return };
    let coding = ["identity", "gzip", "deflate", "br", "zstd"][usize::from(*coding) % 5];
    if let Ok(decoded) = decode(Some(coding), bytes, LIMIT) {
        assert!(decoded.len() <= LIMIT);
    }
});
