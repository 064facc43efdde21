//! What an agent's connection may begin with: see `harness/edge.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../harness/edge.rs"]
mod edge;

fuzz_target!(|data: &[u8]| {
    edge::run(data);
});
