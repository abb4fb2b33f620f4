//! Small dataset files for the tests of this folder. Not every test binary uses each of them.
#![allow(dead_code, unreachable_pub, reason = "compiled into each test binary, which uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

use accord_data::{Dataset, DatasetManifest, Reading};
use accord_spec::{Data, Format};
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

/// A dataset's folder, gone with the test.
pub struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    pub fn new() -> Folder {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("set")).unwrap();
        Folder { root }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn path(&self) -> PathBuf {
        self.root.path().join("set")
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).unwrap();
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap()
    }

    pub fn cut(&self, name: &str, len: usize) {
        self.put(name, &self.get(name)[..len]);
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }

    pub fn vanish(&self) {
        fs::remove_dir_all(self.path()).unwrap();
    }

    /// `[data]` with this folder, a format and more keys.
    pub fn data(&self, format: Format, keys: &str) -> Data {
        data("set", format, keys)
    }
}

pub fn data(path: &str, format: Format, keys: &str) -> Data {
    let format = format!("{format:?}").to_lowercase();
    let text = format!(
        "[job]\nname = \"a\"\n[data]\npath = {path:?}\nformat = \"{format}\"\n{keys}\n[model]\nkind = \"lightgcn\"\n"
    );
    accord_spec::parse(&text, &[]).unwrap().data
}

/// The manifest, without how the files were understood.
pub fn without_reading(dataset: &Dataset) -> DatasetManifest {
    DatasetManifest { reading: Reading::default(), ..dataset.manifest.clone() }
}

pub fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|s| format!("{s},")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out.extend(data);
    out
}

pub fn zip(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

pub fn ints(values: &[i32]) -> Vec<u8> {
    npy("<i4", &[values.len()], &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

pub fn coo(rows: &[i32], columns: &[i32], shape: [i32; 2]) -> Vec<u8> {
    zip(&[("row", ints(rows)), ("col", ints(columns)), ("shape", ints(&shape))])
}

pub fn safetensors(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), data)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}
