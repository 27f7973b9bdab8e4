#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| micro_rpc::fuzz::body(bytes));
