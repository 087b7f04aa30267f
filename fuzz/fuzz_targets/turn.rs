#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stunfwd_fuzz::turn::run(data));
