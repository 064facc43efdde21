//! Envelopes and messages: see `harness/decode.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../harness/decode.rs"]
mod decode;

fuzz_target!(|data: &[u8]| decode::run(data));
