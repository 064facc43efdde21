//! Bytes of an HTTP/1 connection: see `harness/strict.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../harness/strict.rs"]
mod strict;

fuzz_target!(|data: &[u8]| {
    strict::run(data);
});
