//! `coordinator plan`: what each worker would hold and send, before anything starts.

mod estimate;

use super::{job_file, output};
use accord_data::partition::report::{RankReport, Report};
use accord_data::partition::{Choice, Method, Partition, Scheme};
use accord_data::{Dataset, Interactions, TextNeed};
use accord_spec::{JobSpec, ModelKind, Override};
use clap::Args;
use estimate::{Memory, Sizes, StepBytes};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Show what each worker would hold and send, before anything starts
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator plan configs/ml-100k.toml --workers 4
  coordinator plan job.toml --workers 8 --set partition.strategy=hash --json

Rows and bytes of the halo exchange are counted, those of a batch are expectations; memory is that of a step's tables and
lists, beside the libraries (about 140 MB a process). `run` and `submit` make the same partition.")]
pub(super) struct PlanArgs {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    job: PathBuf,
    /// Workers to plan for (cluster.workers)
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// Override a key of the job file; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<Override>,
    #[arg(long)]
    json: bool,
}

/// One way to divide the catalog and to exchange rows.
#[derive(Debug, Serialize)]
struct Candidate {
    strategy: &'static str,
    exchange: &'static str,
    /// The job's own.
    chosen: bool,
    /// Most loaded worker over the mean.
    balance: f64,
    /// Rows that the worst worker receives in one exchange, and as a share of all nodes.
    rows_worst: usize,
    rows_share: f64,
    /// Bytes that the worker who sends most sends in one step by halo exchanges, and as a share of the first candidate's:
    /// every row to everyone, in equal parts.
    halo_bytes_worst: u64,
    of_all_gather: f64,
}

/// One worker under the job's own candidate.
#[derive(Debug, Serialize)]
struct Worker {
    rank: usize,
    users: usize,
    items: usize,
    /// Edges at its nodes.
    edges: u64,
    /// Rows in and out of one exchange.
    received: usize,
    sent: usize,
    step_bytes: StepBytes,
    memory: Memory,
}

#[derive(Debug, Serialize)]
struct Plan {
    workers: usize,
    users: usize,
    items: usize,
    train: usize,
    partition_digest: String,
    candidates: Vec<Candidate>,
    ranks: Vec<Worker>,
}

/// # Errors
/// A bad job file or dataset.
pub(super) fn run(args: PlanArgs) -> anyhow::Result<()> {
    let mut sets = args.sets;
    sets.extend(args.workers.map(|n| Override { key: "cluster.workers".into(), value: n.to_string() }));
    let job = job_file::read(&args.job, sets)?;
    let workers = job.spec.cluster.workers as usize;
    let data = accord_objects::dataset::local(&job.spec.data, Duration::ZERO)?;
    let dataset = Dataset::load(&data, &job.root, job.spec.job.seed, TextNeed::None)?;
    let text = Dataset::text_widths(&data, &job.root, TextNeed::of(job.spec.model.kind))?;
    let plan = plan(&job.spec, &dataset.train, text, workers);
    if args.json {
        return output::json(&plan);
    }
    show(&plan);
    Ok(())
}

fn plan(spec: &JobSpec, train: &Interactions, text: [usize; 2], workers: usize) -> Plan {
    let choice = Choice::of(spec);
    let sizes = Sizes::new(spec, train, text, workers);
    let nodes = train.users() + train.items();
    let mut candidates = Vec::new();
    let (mut ranks, mut partition_digest) = (Vec::new(), String::new());
    // every row to everyone, in equal parts: what all candidates are held against
    let mut reference = None;
    for method in [Method::Hash, Method::Fennel] {
        let partition = Partition::new(train, workers, method, choice.cost);
        for scheme in [Scheme::AllGather, Scheme::Halo, Scheme::Aggregate] {
            if scheme == Scheme::Aggregate && spec.model.kind == ModelKind::Irllrec {
                continue;
            }
            let report = Report::new(train, &partition, scheme, choice.cost);
            let chosen = (method, scheme) == (choice.method, choice.scheme);
            let halo_bytes_worst = halo_worst(&sizes, &report);
            let reference = *reference.get_or_insert(halo_bytes_worst);
            candidates.push(Candidate {
                strategy: method.name(),
                exchange: name(scheme),
                chosen,
                balance: report.balance,
                rows_worst: report.rows_worst(),
                rows_share: report.rows_worst() as f64 / nodes.max(1) as f64,
                halo_bytes_worst,
                of_all_gather: halo_bytes_worst as f64 / reference.max(1) as f64,
            });
            if chosen {
                partition_digest = partition.digest();
                ranks = report.ranks.iter().enumerate().map(|(rank, r)| worker(&sizes, rank, r)).collect();
            }
        }
    }
    let (users, items, train) = (train.users(), train.items(), train.len());
    Plan { workers, users, items, train, partition_digest, candidates, ranks }
}

fn halo_worst(sizes: &Sizes, report: &Report) -> u64 {
    report.ranks.iter().map(|rank| sizes.step_bytes(rank).halo).max().unwrap_or(0)
}

fn worker(sizes: &Sizes, rank: usize, report: &RankReport) -> Worker {
    Worker {
        rank,
        users: report.users,
        items: report.items,
        edges: report.entries,
        received: report.received.total(),
        sent: report.sent.total(),
        step_bytes: sizes.step_bytes(report),
        memory: sizes.memory(report),
    }
}

fn name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::AllGather => "allgather",
        Scheme::Halo => "raw",
        Scheme::Aggregate => "prepost",
    }
}

fn show(plan: &Plan) {
    let Plan { workers, users, items, train, partition_digest, candidates, ranks } = plan;
    output::line(format!("{workers} workers, {users} users, {items} items, {train} training interactions\n"));
    let rows = candidates.iter().map(|c| {
        vec![
            if c.chosen { "*" } else { "" }.into(),
            c.strategy.into(),
            c.exchange.into(),
            format!("{:.2}", c.balance),
            c.rows_worst.to_string(),
            format!("{:.3}", c.rows_share),
            megabytes(c.halo_bytes_worst),
            format!("{:.2}", c.of_all_gather),
        ]
    });
    let header = ["", "STRATEGY", "EXCHANGE", "BALANCE", "ROWS IN", "SHARE", "MB OUT A STEP", "OF ALLGATHER"];
    output::table(&header, rows.collect());
    output::line(format!("\n* the job's own; partition {}", partition_digest.get(..12).unwrap_or(partition_digest)));
    output::line(
        "Rows that the worst worker receives in one exchange, halo bytes that the worst one sends in a step.\n",
    );
    let rows = ranks.iter().map(|w| {
        vec![
            w.rank.to_string(),
            w.users.to_string(),
            w.items.to_string(),
            w.edges.to_string(),
            w.received.to_string(),
            megabytes(w.step_bytes.halo),
            megabytes(w.step_bytes.total()),
            megabytes(w.memory.text),
            megabytes(w.memory.total()),
        ]
    });
    let header = ["RANK", "USERS", "ITEMS", "EDGES", "ROWS IN", "HALO MB A STEP", "MB A STEP", "TEXT MB", "MEMORY MB"];
    output::table(&header, rows.collect());
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}
