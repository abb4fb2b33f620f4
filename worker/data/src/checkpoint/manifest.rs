//! `manifest.json`: what a checkpoint consists of and how far training was. Numbers keep every bit: JSON readers round
//! floats, so these are written as text that parses back exactly.

use super::CheckpointError;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// Bytes, on every file system that Linux mounts; keys in a bucket may be longer.
const LONGEST_NAME: usize = 255;

/// Everything but tensors that a run needs to go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    pub epoch: u64,
    /// Steps of the whole training done so far.
    pub step: u64,
    /// Steps of this epoch done so far.
    pub step_in_epoch: u64,
    /// Sums over this epoch's steps so far, by loss term.
    #[serde(with = "exact_list")]
    pub epoch_losses: Vec<(String, f64)>,
    /// Best validation metric so far.
    #[serde(with = "exact_option")]
    pub best: Option<f64>,
    pub best_epoch: u64,
    pub evaluations_without_gain: u64,
    pub finished: bool,
}

/// One file of a checkpoint, by its plain name inside the checkpoint's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub name: String,
    pub bytes: u64,
    /// Hex digest of the file.
    pub blake3: String,
}

/// What commits a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`Manifest::VERSION`].
    pub version: u32,
    /// Membership and size of the group that wrote it.
    pub generation: u64,
    pub world: u32,
    pub progress: Progress,
    pub config_digest: String,
    pub data_digest: String,
    /// The files of every rank.
    pub files: Vec<FileEntry>,
}

/// The manifest as it lies on disk: with its own digest, so that a flipped bit is seen here too.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    blake3: String,
    manifest: Manifest,
}

impl Manifest {
    /// The layout this version writes and reads.
    pub const VERSION: u32 = 1;

    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let envelope = Envelope { blake3: self.digest()?, manifest: self.clone() };
        let mut text = serde_json::to_vec_pretty(&envelope)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Parses and checks a manifest that was read from `address` in the folder of `step`.
    pub(crate) fn decode(bytes: &[u8], address: &str, step: u64) -> Result<Manifest, CheckpointError> {
        let damaged = |why: String| CheckpointError::damaged(address, why);
        let Envelope { blake3, manifest } =
            serde_json::from_slice(bytes).map_err(|e| damaged(format!("not a manifest ({e})")))?;
        if manifest.version != Manifest::VERSION {
            let why = format!("version {}, this program reads {}", manifest.version, Manifest::VERSION);
            return Err(damaged(why));
        }
        if manifest.digest().map_err(|e| damaged(e.to_string()))? != blake3 {
            return Err(damaged("the digest of the manifest itself does not match".into()));
        }
        manifest.check(step).map_err(damaged)?;
        Ok(manifest)
    }

    /// The rules a manifest keeps: plain file names, each once, and the step of its folder.
    pub(crate) fn check(&self, step: u64) -> Result<(), String> {
        if self.progress.step != step {
            return Err(format!("it says step {}, its folder says {step}", self.progress.step));
        }
        if self.files.is_empty() {
            return Err("it names no file".into());
        }
        for (k, file) in self.files.iter().enumerate() {
            let path = Path::new(&file.name);
            // the whole name is one component: `a/` and `a/.` have one too, and are none
            let plain = path.components().next() == Some(Component::Normal(path.as_os_str()));
            if !plain {
                return Err(format!("file name `{}` points outside the checkpoint", file.name));
            }
            // asking a file system for such a name fails, which would pass for a failing disk
            if file.name.len() > LONGEST_NAME || file.name.contains('\0') {
                return Err(format!("file name {:?} is none that a file can have", file.name));
            }
            if self.files[..k].iter().any(|f| f.name == file.name) {
                return Err(format!("file `{}` is named twice", file.name));
            }
        }
        Ok(())
    }

    fn digest(&self) -> Result<String, serde_json::Error> {
        Ok(blake3::hash(&serde_json::to_vec(self)?).to_hex().to_string())
    }
}

/// `{:?}` prints the shortest text that parses back to the same bits.
fn to_text(value: f64) -> String {
    format!("{value:?}")
}

fn from_text<E: serde::de::Error>(text: &str) -> Result<f64, E> {
    text.parse().map_err(|_| E::custom(format!("`{text}` is not a number")))
}

mod exact_option {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(super::to_text).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|t| super::from_text(&t)).transpose()
    }
}

mod exact_list {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[(String, f64)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|(name, value)| (name, super::to_text(*value))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, f64)>, D::Error> {
        let values = Vec::<(String, String)>::deserialize(deserializer)?;
        values.into_iter().map(|(name, text)| Ok((name, super::from_text(&text)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn progress_keeps_every_bit(bits in proptest::collection::vec(any::<u64>(), 1..6), best in any::<u64>()) {
            let finite = |b: u64| Some(f64::from_bits(b)).filter(|v| !v.is_nan()).unwrap_or(f64::NEG_INFINITY);
            let progress = Progress {
                epoch_losses: bits.iter().map(|&b| (format!("loss {b}"), finite(b))).collect(),
                best: Some(finite(best)),
                step: best,
                ..Progress::default()
            };
            let text = serde_json::to_string(&progress).unwrap();
            let back: Progress = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back.best.map(f64::to_bits), progress.best.map(f64::to_bits));
            for (a, b) in back.epoch_losses.iter().zip(&progress.epoch_losses) {
                prop_assert_eq!((&a.0, a.1.to_bits()), (&b.0, b.1.to_bits()));
            }
            prop_assert_eq!(back, progress);
        }
    }
}
