//! Rules between values that the types cannot say. Each failure names one field and what to do.

use crate::{
    Column, Data, Eval, Halo, JobSpec, Location, Metric, MetricAtK, ModelKind, Negatives, SpecError,
    TranslationPrecision,
};

/// Workers of a job at most: every worker is connected to every other.
pub const MAX_WORKERS: u32 = 1024;

type Rule = Result<(), SpecError>;

pub(crate) fn validate(spec: &JobSpec) -> Rule {
    job(spec)?;
    data(spec)?;
    model(spec)?;
    loss(spec)?;
    training(spec)?;
    evaluation(&spec.eval)?;
    cluster(spec)?;
    storage(spec)?;
    kubernetes(spec)
}

fn ensure(holds: bool, field: &str, message: impl FnOnce() -> String, hint: &str) -> Rule {
    if holds { Ok(()) } else { Err(SpecError::of(field, message(), hint)) }
}

fn job(spec: &JobSpec) -> Rule {
    let name = &spec.job.name;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure(
        !name.is_empty()
            && name.len() <= 63
            && name.chars().all(plain)
            && !name.starts_with('-')
            && !name.ends_with('-'),
        "job.name",
        || format!("`{name}` is not a job name"),
        "use 1 to 63 lower-case letters, digits and inner dashes, such as amazon-irllrec",
    )
}

fn data(spec: &JobSpec) -> Rule {
    let data = &spec.data;
    ensure(
        !data.path.is_empty() || data.synthetic.is_some(),
        "data.path",
        || "is missing".into(),
        "name the folder of the dataset",
    )?;
    ensure(
        data.synthetic.is_none() || spec.model.kind == ModelKind::Lightgcn,
        "data.synthetic",
        || format!("a made-up catalog with model.kind = \"{}\"", spec.model.kind.name()),
        "it has no texts: train lightgcn on it",
    )?;
    let path = Location::of_data(&data.path);
    ensure(
        path.is_ok(),
        "data.path",
        || path.err().unwrap_or_default(),
        "name a folder, or s3://bucket/prefix in a store that speaks S3",
    )?;
    let fields = ["data.text.user_profile", "data.text.item_profile", "data.text.user_intent", "data.text.item_intent"];
    for (field, file) in fields.into_iter().zip(data.text.given()) {
        ensure(
            file.is_none_or(stays_inside),
            field,
            || format!("`{}` leaves the dataset's folder", file.unwrap_or_default()),
            "give a file name inside data.path",
        )?;
    }
    ensure(
        data.min_rating.is_none_or(f64::is_finite),
        "data.min_rating",
        || "is not a finite number".into(),
        "give the lowest rating to keep, such as 4.0",
    )?;
    reading(data)?;
    let ratio = data.split_ratio;
    ensure(
        ratio.iter().all(|r| r.is_finite() && *r > 0.0),
        "data.split_ratio",
        || format!("{ratio:?} has a share that is not positive"),
        "give three positive shares, such as [0.6, 0.2, 0.2]",
    )
}

/// How text files are read.
fn reading(data: &Data) -> Rule {
    for (field, column) in [
        ("data.columns.user", &data.columns.user),
        ("data.columns.item", &data.columns.item),
        ("data.columns.rating", &data.columns.rating),
        ("data.columns.time", &data.columns.time),
    ] {
        ensure(
            !matches!(column, Some(Column::Place(0))) && !matches!(column, Some(Column::Name(name)) if name.is_empty()),
            field,
            || "names no column".into(),
            "give the column's name in the header, or its place counted from 1",
        )?;
    }
    ensure(
        data.columns.user.is_none() || data.columns.user != data.columns.item,
        "data.columns.item",
        || "is the user's column too".into(),
        "name two different columns",
    )?;
    let usable = |text: &str| (1..=8).contains(&text.len()) && !text.contains(['"', '\n', '\r']);
    ensure(
        data.separator.as_deref().is_none_or(usable),
        "data.separator",
        || format!("{:?} cannot separate fields", data.separator.as_deref().unwrap_or_default()),
        "give one to eight characters, such as \",\" or \"\\t\", or \"blank\" for any run of blanks",
    )
}

pub(crate) fn stays_inside(file: &str) -> bool {
    use std::path::{Component, Path};
    !file.is_empty() && Path::new(file).components().all(|c| matches!(c, Component::Normal(_)))
}

fn model(spec: &JobSpec) -> Rule {
    let model = &spec.model;
    ensure(
        (1..=1024).contains(&model.dim),
        "model.dim",
        || format!("{} is out of range", model.dim),
        "use 1 to 1024; the kernels are fastest at multiples of 32",
    )?;
    ensure(
        (1..=16).contains(&model.layers),
        "model.layers",
        || format!("{} is out of range", model.layers),
        "use 1 to 16",
    )?;
    ensure(
        (1..=4096).contains(&model.intents),
        "model.intents",
        || format!("{} is out of range", model.intents),
        "use 1 to 4096",
    )?;
    ensure(
        model.edge_keep > 0.0 && model.edge_keep <= 1.0,
        "model.edge_keep",
        || format!("{} is not a share of edges", model.edge_keep),
        "use more than 0 and at most 1 (1 keeps every edge)",
    )?;
    ensure(
        model.kind != ModelKind::Irllrec || model.edge_keep == 1.0,
        "model.edge_keep",
        || format!("{} with model.kind = \"irllrec\"", model.edge_keep),
        "IRLLRec trains on the whole graph: leave edge_keep at 1.0",
    )?;
    ensure(
        (0.0..=1.0).contains(&model.teacher_momentum),
        "model.teacher_momentum",
        || format!("{} is out of range", model.teacher_momentum),
        "use 0 to 1; the paper's code uses 0.999",
    )?;
    ensure(
        model.teacher_sync_steps >= 1,
        "model.teacher_sync_steps",
        || "0 would never synchronise".into(),
        "use 1 or more",
    )
}

fn loss(spec: &JobSpec) -> Rule {
    let loss = &spec.loss;
    for (field, weight) in [
        ("loss.reg_weight", loss.reg_weight),
        ("loss.kd_weight", loss.kd_weight),
        ("loss.kd_int_weight", loss.kd_int_weight),
        ("loss.translation_weight", loss.translation_weight),
        ("loss.itm_weight", loss.itm_weight),
    ] {
        ensure(
            weight.is_finite() && weight >= 0.0,
            field,
            || format!("{weight} is not a weight"),
            "use a finite number that is not negative",
        )?;
    }
    for (field, temperature) in
        [("loss.kd_temperature", loss.kd_temperature), ("loss.kd_int_temperature", loss.kd_int_temperature)]
    {
        // the kernels sum exp(cosine / temperature) without a shift, as the official code: e^50 leaves f32 room for
        // 2^32 keys, and for the reciprocal of their sum
        ensure(
            temperature.is_finite() && temperature >= 0.02,
            field,
            || format!("{temperature} is not a usable temperature"),
            "use 0.02 or more; the paper's code uses 0.2",
        )?;
    }
    // [d^2 / 2, d] third moments a thread: 34 MB at d = 256
    ensure(
        loss.translation_precision != TranslationPrecision::Moments || spec.model.dim <= 256,
        "loss.translation_precision",
        || format!("\"moments\" with model.dim = {}", spec.model.dim),
        "the moment form costs d^3: use \"auto\" or \"bf16\" above 256",
    )?;
    ensure(
        loss.negatives != Negatives::Sampled(0),
        "loss.negatives",
        || "a sample of 0 users".into(),
        "use { sampled = 4096 } or another number, \"batch\", or \"all\", the official behaviour",
    )
}

fn training(spec: &JobSpec) -> Rule {
    let optim = &spec.optim;
    ensure(
        optim.lr.is_finite() && optim.lr > 0.0,
        "optim.lr",
        || format!("{} is not a learning rate", optim.lr),
        "use a positive number such as 1e-3",
    )?;
    ensure(
        (1..=1 << 24).contains(&optim.batch_size),
        "optim.batch_size",
        || format!("{} is out of range", optim.batch_size),
        "use 1 to 16777216 pairs a step",
    )?;
    ensure(optim.epochs >= 1, "optim.epochs", || "0 trains nothing".into(), "use 1 or more")?;
    ensure(optim.patience >= 1, "optim.patience", || "0 would stop at once".into(), "use 1 or more")
}

fn evaluation(eval: &Eval) -> Rule {
    ensure(eval.every_epochs >= 1, "eval.every_epochs", || "0 would never evaluate".into(), "use 1 or more")?;
    let ks = eval.cutoffs();
    ensure(
        !ks.is_empty() && ks.windows(2).all(|w| w[0] < w[1]) && ks.iter().all(|k| (1..=1000).contains(k)),
        "eval.ks",
        || format!("{ks:?} is not an ascending list of cut-offs"),
        "use ascending numbers from 1 to 1000, such as [5, 10, 20]",
    )?;
    let names = |metrics: &[Metric]| metrics.iter().map(|metric| metric.name()).collect::<Vec<_>>().join(", ");
    let repeated = (1..eval.metrics.len()).find(|&at| eval.metrics[..at].contains(&eval.metrics[at]));
    ensure(
        !eval.metrics.is_empty() && repeated.is_none(),
        "eval.metrics",
        || repeated.map_or("is empty".into(), |at| format!("has `{}` twice", eval.metrics[at].name())),
        &format!("name each metric once, out of {}", names(&Metric::ALL)),
    )?;
    let selecting = eval.selecting();
    let listed = eval.metrics.iter().flat_map(|metric| ks.iter().map(move |k| format!("{}@{k}", metric.name())));
    let hint = format!("use one of {}", listed.take(12).collect::<Vec<_>>().join(", "));
    let MetricAtK { metric, k } = selecting.map_err(|message| SpecError::of("eval.select", message, &hint))?;
    ensure(
        eval.metrics.contains(&metric),
        "eval.select",
        || match &eval.select {
            Some(select) => format!("`{select}` while eval.metrics has no `{}`", metric.name()),
            None => {
                format!("is missing, and its default `{metric}@{k}` is not in eval.metrics", metric = metric.name())
            }
        },
        &hint,
    )?;
    ensure(ks.contains(&k), "eval.select", || format!("`{}@{k}` while eval.ks has no {k}", metric.name()), &hint)
}

fn cluster(spec: &JobSpec) -> Rule {
    let cluster = &spec.cluster;
    ensure(
        (1..=MAX_WORKERS).contains(&cluster.workers),
        "cluster.workers",
        || format!("{} workers", cluster.workers),
        "use 1 to 1024",
    )?;
    ensure(
        (1..=cluster.workers).contains(&cluster.min_workers),
        "cluster.min_workers",
        || format!("{} of {} workers", cluster.min_workers, cluster.workers),
        "use 1 to cluster.workers",
    )?;
    ensure(
        cluster.threads_per_worker <= 1024,
        "cluster.threads_per_worker",
        || format!("{} is out of range", cluster.threads_per_worker),
        "use 0 (share the cores) to 1024",
    )?;
    ensure(
        spec.partition.halo != Halo::Prepost || spec.model.kind != ModelKind::Irllrec,
        "partition.halo",
        || "\"prepost\" with model.kind = \"irllrec\"".into(),
        "partial sums are exact for linear layers only, and the intent view needs raw rows: use \"auto\" or \"raw\"",
    )
}

fn storage(spec: &JobSpec) -> Rule {
    let (checkpoint, recovery) = (&spec.checkpoint, &spec.recovery);
    let uri = Location::of_checkpoints(&checkpoint.uri);
    ensure(
        uri.is_ok(),
        "checkpoint.uri",
        || uri.err().unwrap_or_default(),
        "use a relative folder name such as checkpoints, or s3://bucket/prefix",
    )?;
    ensure(checkpoint.every_steps >= 1, "checkpoint.every_steps", || "0 would never save".into(), "use 1 or more")?;
    ensure(checkpoint.keep >= 1, "checkpoint.keep", || "0 would keep none".into(), "use 1 or more")?;
    ensure(
        checkpoint.max_failures >= 1,
        "checkpoint.max_failures",
        || "0 would end every job".into(),
        "use 1 or more",
    )?;
    ensure(
        (100..=3_600_000).contains(&recovery.detect_within_ms),
        "recovery.detect_within_ms",
        || format!("{} ms is out of range", recovery.detect_within_ms),
        "use 100 to 3600000 milliseconds",
    )?;
    ensure(
        recovery.coordinator_within_ms >= recovery.detect_within_ms,
        "recovery.coordinator_within_ms",
        || format!("{} ms is less than recovery.detect_within_ms", recovery.coordinator_within_ms),
        "a coordinator that restarts needs some seconds; 600000 is the default",
    )
}

fn kubernetes(spec: &JobSpec) -> Rule {
    let pods = &spec.kubernetes;
    ensure(
        pods.gpus_per_worker <= 1,
        "kubernetes.gpus_per_worker",
        || format!("{} GPUs", pods.gpus_per_worker),
        "a worker owns one device: use 0 or 1, and more workers",
    )?;
    ensure(
        (1000..=86_400_000).contains(&pods.form_within_ms),
        "kubernetes.form_within_ms",
        || format!("{} ms is out of range", pods.form_within_ms),
        "use 1000 to 86400000 milliseconds",
    )?;
    ensure(
        (1..=86_400).contains(&pods.grace_seconds),
        "kubernetes.grace_seconds",
        || format!("{} is out of range", pods.grace_seconds),
        "use 1 to 86400: about twice the seconds that a checkpoint takes",
    )?;
    ensure(
        pods.active_deadline_seconds.is_none_or(|seconds| (1..=u64::from(u32::MAX)).contains(&seconds)),
        "kubernetes.active_deadline_seconds",
        || "is out of range".into(),
        "leave it out, or use 1 to 4294967295",
    )?;
    ensure(
        i32::try_from(pods.keep_finished_seconds).is_ok(),
        "kubernetes.keep_finished_seconds",
        || format!("{} is out of range", pods.keep_finished_seconds),
        "use 0 to 2147483647",
    )
}
