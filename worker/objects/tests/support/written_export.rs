//! An export in a folder, for what sends one.

use accord_data::export::{Catalog, ExportManifest, ExportWriter};
use accord_data::{Dataset, TextNeed};
use std::io::Write as _;
use std::path::Path;

/// Writes an export of a small made-up dataset whose embeddings are these bytes.
pub(crate) fn write_export(folder: &Path, embeddings: &[u8]) {
    let job = "[job]\nname = \"a\"\n[data]\nsynthetic = { users = 30, items = 20, interactions = 120 }\n\
               [model]\nkind = \"lightgcn\"\n";
    let spec = accord_spec::parse(job, &[]).unwrap();
    let dataset = Dataset::load(&spec.data, Path::new("unused"), 1, TextNeed::None).unwrap();
    let mut writer = ExportWriter::begin(folder).unwrap();
    let mut file = writer.embeddings().unwrap();
    file.write_all(embeddings).unwrap();
    writer.keep(file).unwrap();
    writer.dataset(&Catalog::of(&dataset, Path::new("made up")).unwrap(), &dataset.train).unwrap();
    let manifest = ExportManifest {
        version: ExportManifest::VERSION,
        job: "a".into(),
        model: "lightgcn".into(),
        users: 30,
        items: 20,
        dim: 1,
        data_digest: dataset.manifest.digest,
        config_digest: "c".into(),
        best_epoch: 1,
        select: "recall@20".into(),
        best_validation: 0.5,
        test: Default::default(),
        files: Vec::new(),
    };
    writer.commit(manifest).unwrap();
}
