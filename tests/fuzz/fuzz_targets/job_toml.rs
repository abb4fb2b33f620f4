//! A job file of any text, and `--set`s: one a line behind the first NUL. What is accepted survives being written.
#![no_main]

use accord_spec::{Override, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (text, sets) = text.split_once('\0').unwrap_or((text, ""));
    let sets: Vec<Override> = sets.lines().filter_map(|set| set.parse().ok()).collect();
    match parse(text, &sets) {
        Err(error) => assert!(!error.message.is_empty(), "{error:?}"),
        Ok(spec) => {
            let written = toml::to_string(&spec).expect("a spec can be written");
            assert_eq!(parse(&written, &[]), Ok(spec), "{written}");
        }
    }
});
