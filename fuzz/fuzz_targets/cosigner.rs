//! Sequences of operations on the co-signer's service: see `harness/server.rs`.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../harness/server.rs"]
mod server;

thread_local! {
    static BENCH: RefCell<server::Bench> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    BENCH.with_borrow_mut(|bench| bench.run(data));
});
