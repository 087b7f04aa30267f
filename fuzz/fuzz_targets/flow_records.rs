#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stunfwd_fuzz::flow_records::run(data));
