#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| kiseki_fs::nfs::fuzzing::wire(input));
