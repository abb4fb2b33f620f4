//! Job files as users write them, good and bad.

use crate::{Data, Format, JobSpec, ModelKind, Override, SpecError, TextFiles, TranslationPrecision, parse};

const MINIMAL: &str = "[job]\nname = \"a\"\n\n[data]\npath = \"data\"\n\n[model]\nkind = \"irllrec\"\n";

fn parsed(text: &str) -> JobSpec {
    parse(text, &[]).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(text: &str, sets: &[&str]) -> SpecError {
    let sets: Vec<Override> = sets.iter().map(|s| s.parse().unwrap()).collect();
    parse(text, &sets).expect_err("it should be refused")
}

#[test]
fn the_example_shows_every_key_at_its_default() {
    let example = include_str!("../job.example.toml");
    let mut spec = parsed(example);
    let table: toml::Table = toml::from_str(example).unwrap();
    // every key of the structs is in the file, but those that stand there as comments
    let known = toml::Table::try_from(&spec).unwrap();
    for (section, keys) in &known {
        let shown = table.get(section).unwrap_or_else(|| panic!("[{section}] is not shown")).as_table().unwrap();
        for key in keys.as_table().unwrap().keys() {
            assert!(shown.contains_key(key), "{section}.{key} is not shown");
        }
    }
    spec.job.name = "a".into();
    spec.data.path = "data".into();
    assert_eq!(spec, parsed(MINIMAL));
}

#[test]
fn a_job_file_survives_being_written_and_read() {
    let spec = parsed(MINIMAL);
    assert_eq!(parsed(&toml::to_string(&spec).unwrap()), spec);
}

#[test]
fn overrides_replace_values_and_add_sections() {
    let sets = ["loss.translation_precision=bf16", "model.kind=lightgcn", "optim.lr=0.5", "eval.ks=[3, 7]"];
    let sets: Vec<Override> = sets.iter().map(|s| s.parse().unwrap()).collect();
    let spec = parse(MINIMAL, &sets).unwrap();
    assert_eq!(spec.loss.translation_precision, TranslationPrecision::Bf16);
    assert_eq!((spec.model.kind, spec.optim.lr, spec.eval.ks), (ModelKind::Lightgcn, 0.5, Some(vec![3, 7])));
    for wrong in ["loss", "kd_weight=1", "loss..kd_weight=1"] {
        assert!(wrong.parse::<Override>().is_err(), "{wrong}");
    }
}

#[test]
fn errors_name_line_field_and_remedy() {
    let error = refused(&MINIMAL.replace("kind", "kinds"), &[]);
    assert_eq!((error.line, error.hint.as_deref()), (Some(8), Some("did you mean `kind`?")));
    let error = refused(&format!("{MINIMAL}dim = 0\n"), &[]);
    assert_eq!((error.line, error.field.as_deref()), (Some(9), Some("model.dim")));
    assert!(error.hint.is_some());
    let error = refused(MINIMAL, &["model.dim=0"]);
    assert_eq!((error.line, error.field.as_deref()), (None, Some("model.dim")));
    let error = refused(MINIMAL, &["model.dimm=3"]);
    assert!(error.message.contains("--set model.dimm=3"), "{error}");
    let error = refused(MINIMAL, &["job.name.first=3"]);
    assert!(error.message.contains("`name`"), "{error}");
}

#[test]
fn values_out_of_range_are_refused() {
    for set in [
        "job.name=Upper",
        "data.path=gs://bucket/x",
        "data.path=s3://bucket/a/../b",
        "data.path=s3://B/x",
        "data.min_rating=nan",
        "data.columns.user=0",
        "data.columns.item=''",
        "data.separator=''",
        "data.separator=a long one",
        "data.split_ratio=[1.0, 0.0, 0.1]",
        "model.layers=0",
        "model.intents=0",
        "model.edge_keep=0.0",
        "model.edge_keep=0.8",
        "model.teacher_momentum=1.5",
        "model.teacher_sync_steps=0",
        "loss.kd_weight=-1.0",
        "loss.kd_temperature=0.001",
        "loss.negatives={ sampled = 0 }",
        "optim.lr=nan",
        "optim.batch_size=0",
        "optim.epochs=0",
        "optim.patience=0",
        "eval.every_epochs=0",
        "eval.ks=[10, 5]",
        "eval.ks=[]",
        "eval.ks=[1, 1001]",
        "eval.metrics=[]",
        "eval.metrics=[\"ndcg\", \"recall\", \"ndcg\"]",
        "eval.select=recall",
        "eval.select=recal@20",
        "eval.select=recall@50",
        "eval.select=mrr@20",
        "cluster.workers=0",
        "cluster.workers=5000",
        "cluster.min_workers=0",
        "cluster.threads_per_worker=5000",
        "checkpoint.uri=../up",
        "checkpoint.uri=file:///tmp/x",
        "checkpoint.uri=file://../up",
        "checkpoint.uri=s3://",
        "checkpoint.uri=s3://Bucket/x",
        "checkpoint.uri=s3://bucket/a//b",
        "checkpoint.uri=s3://bucket/../x",
        "checkpoint.uri=s3://bucket/what?",
        "checkpoint.uri=gs://bucket/x",
        "checkpoint.every_steps=0",
        "checkpoint.keep=0",
        "recovery.detect_within_ms=1",
        "kubernetes.gpus_per_worker=8",
        "kubernetes.form_within_ms=1",
        "kubernetes.grace_seconds=0",
        "kubernetes.active_deadline_seconds=0",
        "kubernetes.keep_finished_seconds=4000000000",
    ] {
        let error = refused(MINIMAL, &[set]);
        let field = set.split_once('=').unwrap().0;
        assert_eq!(error.field.as_deref(), Some(field), "{set}: {error}");
        assert!(error.hint.is_some(), "{set} has no hint");
    }
}

#[test]
fn columns_are_named_or_counted() {
    use crate::{Column, MissingIds, Quoting};
    let keys = "columns = { user = \"buyer\", item = 3 }\nseparator = \"|\"\nheader = false\nquoting = \"none\"\n\
                missing_ids = \"drop\"\n";
    let text = MINIMAL.replace("\n[model]", &format!("{keys}\n[model]"));
    let data = parsed(&text).data;
    assert_eq!((data.columns.user, data.columns.item), (Some(Column::Name("buyer".into())), Some(Column::Place(3))));
    assert_eq!((data.separator.as_deref(), data.header), (Some("|"), Some(false)));
    assert_eq!((data.quoting, data.missing_ids), (Quoting::None, MissingIds::Drop));
    assert_eq!(parsed(&toml::to_string(&parsed(&text)).unwrap()), parsed(&text));
    let error = refused(&text.replace("item = 3", "item = \"buyer\""), &[]);
    assert_eq!(error.field.as_deref(), Some("data.columns.item"), "{error}");
    let error = refused(&text.replace("item = 3", "item = [3]"), &[]);
    assert!(error.message.contains("by its place counted from 1"), "{error}");
}

#[test]
fn text_tables_have_the_names_of_their_format() {
    assert_eq!(Data::at("d", Format::Npz).text_names(), TextFiles::DEFAULT);
    let official = ["usr_emb_np.pkl", "itm_emb_np.pkl", "user_intent_emb_3.pkl", "item_intent_emb_3.pkl"];
    let data = Data::at("d", Format::Rlmrec);
    assert_eq!(data.text_names(), official);
    let text = TextFiles { item_profile: Some("i.npy".into()), ..TextFiles::default() };
    let [user, _, intents @ ..] = official;
    assert_eq!(Data { text, ..data }.text_names()[..], [&[user, "i.npy"][..], &intents].concat());
}

#[test]
fn the_selecting_metric_is_named_or_has_a_default() {
    let select = |sets: &[&str]| {
        let sets: Vec<Override> = sets.iter().map(|s| s.parse().unwrap()).collect();
        parse(MINIMAL, &sets).unwrap().eval.selecting().unwrap().to_string()
    };
    assert_eq!(select(&[]), "recall@20");
    assert_eq!(select(&["eval.ks=[10, 20, 50]"]), "recall@20");
    assert_eq!(select(&["eval.ks=[3, 7]"]), "recall@7");
    assert_eq!(select(&["eval.ks=[3, 7]", "eval.select=ndcg@3"]), "ndcg@3");
    assert_eq!(select(&["eval.metrics=[\"map\"]", "eval.select=map@5"]), "map@5");
}

#[test]
fn a_selecting_metric_that_is_not_measured_is_refused_with_its_line() {
    let error = refused(&format!("{MINIMAL}\n[eval]\nks = [3, 7]\nselect = \"recall@20\"\n"), &[]);
    assert_eq!((error.line, error.field.as_deref()), (Some(12), Some("eval.select")));
    assert_eq!(error.message, "`recall@20` while eval.ks has no 20");
    assert_eq!(error.hint.as_deref(), Some("use one of recall@3, recall@7, ndcg@3, ndcg@7"));
    // without recall the default selects nothing that is measured
    let error = refused(&format!("{MINIMAL}\n[eval]\nmetrics = [\"ndcg\"]\n"), &[]);
    assert_eq!(error.field.as_deref(), Some("eval.select"));
    assert_eq!(error.message, "is missing, and its default `recall@20` is not in eval.metrics");
    let error = refused(&format!("{MINIMAL}\n[eval]\nmetrics = [\"ndgc\"]\n"), &[]);
    assert_eq!((error.line, error.hint.as_deref()), (Some(11), Some("did you mean `ndcg`?")));
}

#[test]
fn checkpoints_lie_in_a_folder_or_a_bucket() {
    use crate::Location::{Folder, S3};
    for (uri, expected) in [
        ("saved/here", Folder("saved/here")),
        ("file://saved", Folder("saved")),
        ("s3://bucket/runs/a-1", S3 { bucket: "bucket", prefix: "runs/a-1" }),
        ("s3://bucket/runs/", S3 { bucket: "bucket", prefix: "runs" }),
        ("s3://my.bucket", S3 { bucket: "my.bucket", prefix: "" }),
    ] {
        let spec = parsed(&format!("{MINIMAL}\n[checkpoint]\nuri = \"{uri}\"\n"));
        assert_eq!(crate::Location::of_checkpoints(&spec.checkpoint.uri), Ok(expected));
    }
}
