//! The dataset of a job as it is now, for comparing it with the one that a run was trained on. Holds no more of the text
//! tables than a block.

use accord_data::{DataError, Dataset, TextNeed};
use accord_spec::JobSpec;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// What lies at `data.path` now.
#[derive(Debug)]
pub enum Current {
    /// A dataset; its digest, with the text where the model reads text, as in `dataset.json`.
    Digest(String),
    /// No folder, or an empty one.
    Gone,
    /// Nothing that a run could have been trained on.
    Spoilt(DataError),
    /// A disk or an object store that does not give it.
    OutOfReach(String),
}

/// Reads the dataset of a job whose `data.path` is relative to `root`.
pub fn current(spec: &JobSpec, root: &Path) -> Current {
    let data = match accord_objects::dataset::local(&spec.data, Duration::ZERO) {
        Ok(data) => data,
        Err(error) => return Current::OutOfReach(error.to_string()),
    };
    let folder = root.join(&data.path);
    let is_gone = match std::fs::read_dir(&folder) {
        Ok(mut entries) => entries.next().is_none(),
        // what cannot be looked at may be there
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    if data.synthetic.is_none() && is_gone {
        return Current::Gone;
    }
    let read = || -> Result<String, DataError> {
        let mut dataset = Dataset::load(&data, root, spec.job.seed, TextNeed::None)?;
        let need = TextNeed::of(spec.model.kind);
        if need != TextNeed::None {
            dataset.load_text(&data, root, need, Some(&[]))?;
        }
        Ok(dataset.manifest.digest)
    };
    match read() {
        Ok(digest) => Current::Digest(digest),
        Err(error @ DataError::Io { .. }) if !is_not_found(&error) => Current::OutOfReach(error.to_string()),
        Err(error) => Current::Spoilt(error),
    }
}

fn is_not_found(error: &DataError) -> bool {
    matches!(error, DataError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A job of `model` whose text tables hold `value`, and its folder.
    fn job(model: &str, value: f32) -> (tempfile::TempDir, JobSpec) {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        fs::create_dir(&data).unwrap();
        for (name, text) in [("train", "0 0\n1 1\n2 2\n"), ("valid", "0 1\n"), ("test", "1 2\n")] {
            fs::write(data.join(format!("{name}.txt")), text).unwrap();
        }
        for file in ["usr_emb", "itm_emb", "usr_intent_emb", "itm_intent_emb"] {
            fs::write(data.join(format!("{file}.npy")), table(value)).unwrap();
        }
        let text = "[job]\nname = \"a\"\n[data]\npath = \"data\"\nformat = \"pairs\"\n[model]\nkind = \"MODEL\"\n";
        let spec = accord_spec::parse(&text.replace("MODEL", model), &[]).unwrap();
        (root, spec)
    }

    /// Three rows of width two as `.npy`.
    fn table(value: f32) -> Vec<u8> {
        let mut header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }".to_string();
        header.extend(std::iter::repeat_n(' ', 117 - header.len()));
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend([value; 6].iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }

    fn digest(current: Current) -> String {
        let Current::Digest(digest) = current else { panic!("{current:?}") };
        digest
    }

    #[test]
    fn the_digest_is_that_of_a_training_and_the_text_counts_where_it_is_read() {
        for (model, need) in [("lightgcn", TextNeed::None), ("irllrec", TextNeed::ProfilesAndIntents)] {
            let (root, spec) = job(model, 0.5);
            let trained = Dataset::load(&spec.data, root.path(), spec.job.seed, need).unwrap();
            assert_eq!(digest(current(&spec, root.path())), trained.manifest.digest, "{model}");
            let (other, _) = job(model, 0.25);
            let same = digest(current(&spec, other.path())) == trained.manifest.digest;
            assert_eq!(same, need == TextNeed::None, "{model}");
            fs::write(root.path().join("data/train.txt"), "0 0\n1 1\n2 2\n2 0\n").unwrap();
            assert_ne!(digest(current(&spec, root.path())), trained.manifest.digest, "{model}");
        }
    }

    #[test]
    fn data_that_are_gone_are_told_from_data_that_are_spoilt() {
        let (root, spec) = job("irllrec", 0.5);
        fs::remove_file(root.path().join("data/usr_emb.npy")).unwrap();
        assert!(matches!(current(&spec, root.path()), Current::Spoilt(_)), "a part of it is still there");
        fs::remove_dir_all(root.path().join("data")).unwrap();
        assert!(matches!(current(&spec, root.path()), Current::Gone));
        fs::create_dir(root.path().join("data")).unwrap();
        assert!(matches!(current(&spec, root.path()), Current::Gone), "where a disk is not mounted");
    }
}
