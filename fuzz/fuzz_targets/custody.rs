//! A share's folder in which somebody wrote: see `harness/sealed.rs`.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../harness/sealed.rs"]
mod sealed;

thread_local! {
    static FOLDER: RefCell<sealed::Folder> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    FOLDER.with_borrow(|folder| folder.run(data));
});
