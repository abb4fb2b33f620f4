//! A folder of exported files, each written whole or not at all, in numpy's and safetensors' forms.

use anyhow::Context as _;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Numbers of one array, row-major.
pub(super) enum Column<'a> {
    F32(&'a [f32]),
    I32(&'a [i32]),
}

impl Column<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Column::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Column::I32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// numpy's name of the type.
    fn descriptor(&self) -> &'static str {
        match self {
            Column::F32(_) => "<f4",
            Column::I32(_) => "<i4",
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Column::F32(_) => Dtype::F32,
            Column::I32(_) => Dtype::I32,
        }
    }
}

/// Where the files go, and which there are by now.
pub(super) struct Folder {
    path: PathBuf,
    pub(super) files: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn create(path: PathBuf) -> anyhow::Result<Folder> {
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Folder { path, files: Vec::new() })
    }

    /// Whether `file` lies in this folder.
    pub(super) fn holds(&self, file: &Path) -> bool {
        let folder = file.parent().and_then(|parent| fs::canonicalize(parent).ok());
        folder.is_some() && folder == fs::canonicalize(&self.path).ok()
    }

    /// Writes one file through `fill`; a reader sees the whole file or none.
    pub(super) fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(BufWriter<fs::File>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let file = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.{}.part", std::process::id()));
        let written = fs::File::create(&temporary)
            .map_err(anyhow::Error::from)
            .and_then(|f| fill(BufWriter::new(f)))
            .and_then(|()| Ok(fs::File::open(&temporary)?.sync_all()?))
            .and_then(|()| Ok(fs::rename(&temporary, &file)?));
        if let Err(error) = written {
            // the first error is the one to tell
            let _ = fs::remove_file(&temporary);
            return Err(error.context(format!("cannot write {}", file.display())));
        }
        self.files.push(file);
        Ok(())
    }

    pub(super) fn lines(&mut self, name: &str, lines: &[String]) -> anyhow::Result<()> {
        self.write(name, |mut file| {
            for line in lines {
                writeln!(file, "{line}")?;
            }
            Ok(file.flush()?)
        })
    }

    /// One array in numpy's format 1.0.
    pub(super) fn npy(&mut self, name: &str, shape: &[usize], column: &Column<'_>) -> anyhow::Result<()> {
        self.write(name, |mut file| {
            let lengths: String = shape.iter().map(|n| format!("{n}, ")).collect();
            let mut header =
                format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({lengths}), }}", column.descriptor());
            // magic (6), version (2), length (2) and header together are a multiple of 64
            while !(10 + header.len() + 1).is_multiple_of(64) {
                header.push(' ');
            }
            header.push('\n');
            file.write_all(b"\x93NUMPY\x01\x00")?;
            file.write_all(&u16::try_from(header.len())?.to_le_bytes())?;
            file.write_all(header.as_bytes())?;
            file.write_all(&column.bytes())?;
            Ok(file.flush()?)
        })
    }

    pub(super) fn safetensors(&mut self, name: &str, columns: &[(&str, Vec<usize>, Column<'_>)]) -> anyhow::Result<()> {
        let bytes: Vec<Vec<u8>> = columns.iter().map(|(_, _, column)| column.bytes()).collect();
        let mut views = Vec::with_capacity(columns.len());
        for ((name, shape, column), bytes) in columns.iter().zip(&bytes) {
            views.push((*name, TensorView::new(column.dtype(), shape.clone(), bytes)?));
        }
        let whole = serialize(views, None)?;
        self.write(name, |mut file| {
            file.write_all(&whole)?;
            Ok(file.flush()?)
        })
    }
}
