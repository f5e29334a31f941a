#![no_main]

#[path = "../../tests/untrusted/checks.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::relay(bytes));
