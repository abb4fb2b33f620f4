//! The real model against embeddings made by the Python original. Skipped, with the reason, where the wheel or the
//! reference data cannot be had.

use accord_data::wheel::WheelError;
use accord_text::{Encoder, TextError};
use candle_core::{DType, Tensor};
use std::path::{Path, PathBuf};

/// Rows compared of each list.
const ROWS: usize = 20;

/// With an empty cache, so that nothing an earlier version computed is compared.
fn encoder(cache: &tempfile::TempDir) -> Option<Encoder> {
    match Encoder::load(&mut |_| {}) {
        Ok(encoder) => Some(encoder.with_cache(cache.path().into())),
        Err(TextError::Wheel(broken @ (WheelError::Damaged { .. } | WheelError::NoMember { .. }))) => {
            panic!("{broken}")
        }
        Err(TextError::Wheel(reason)) => {
            eprintln!("SKIPPED: the text model cannot be had: {reason}");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

fn reference() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ml100k");
    if !folder.is_dir() {
        eprintln!("SKIPPED: there are no reference embeddings (../shared/data/ml100k beside the repository)");
        return None;
    }
    Some(folder)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn embeddings_agree_with_the_python_original() {
    let cache = tempfile::tempdir().unwrap();
    let (Some(folder), Some(encoder)) = (reference(), encoder(&cache)) else { return };
    for (jsonl, key, npy) in [
        ("item_text.jsonl", "text", "itm_emb.npy"),
        ("user_text.jsonl", "text", "usr_emb.npy"),
        ("item_text.jsonl", "intent", "itm_intent_emb.npy"),
        ("user_text.jsonl", "intent", "usr_intent_emb.npy"),
    ] {
        let lines = std::fs::read_to_string(folder.join(jsonl)).unwrap();
        let texts: Vec<String> = lines
            .lines()
            .take(ROWS)
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()[key].as_str().unwrap().to_string())
            .collect();
        let wanted = Tensor::read_npy(folder.join(npy)).unwrap().to_dtype(DType::F32).unwrap();
        let wanted = wanted.to_vec2::<f32>().unwrap();
        let found = encoder.encode(&texts, &mut |_| {}).unwrap();
        assert_eq!((found.rows, found.width), (ROWS, 384));
        for (row, (found, wanted)) in found.values.chunks(384).zip(&wanted).enumerate() {
            let cosine = cosine(found, wanted);
            assert!(cosine >= 0.999, "{npy} row {row}: cosine {cosine} for `{}`", texts[row]);
        }
    }
}

#[test]
fn rows_come_back_in_the_callers_order_and_again_from_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let Some(encoder) = encoder(&cache) else { return };
    let texts: Vec<String> =
        ["a long story about the sea and a ship that never came home", "comedy", "", "a war film", "comedy"]
            .map(String::from)
            .to_vec();
    let first = encoder.encode(&texts, &mut |_| {}).unwrap();
    for (row, text) in first.values.chunks(384).zip(&texts) {
        let alone = encoder.encode(std::slice::from_ref(text), &mut |_| {}).unwrap();
        let cosine = cosine(row, &alone.values);
        assert!(cosine > 0.9999, "`{text}` alone differs: {cosine}");
    }
    let mut said = Vec::new();
    let again = encoder.encode(&texts, &mut |line| said.push(line.to_string())).unwrap();
    assert_eq!(again.values, first.values);
    assert_eq!(said, ["5 texts were encoded before"]);
}
