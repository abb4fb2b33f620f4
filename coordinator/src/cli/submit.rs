//! `coordinator submit`: hands a job to a coordinator.

use super::client::{Client, CoordinatorArgs, answer, request};
use super::watch::{self, Interrupts, Seen, Watch};
use super::{Interrupted, job_file, output};
use accord_proto::job::SubmitRequest;
use accord_proto::status::ApiError;
use accord_spec::Override;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Hand a job to a coordinator
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator submit configs/ml-100k.toml
  coordinator submit job.toml --set optim.lr=0.002 --watch
  coordinator submit job.toml --submission-id nightly-2026-05-01    (safe to repeat)

data.path is relative to the job file's folder, and must be readable where the workers run: on the coordinator's machine,
or in pods (an absolute path there). s3://bucket/prefix is read with the credentials that workers have.
Ctrl-C ends --watch, not the job.")]
pub(super) struct SubmitArgs {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    job: PathBuf,
    /// Override a key of the job file; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<Override>,
    /// Stay and watch it train
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// The same id gives the same job [default: a new one]
    #[arg(long, value_name = "ID")]
    submission_id: Option<String>,
    /// Print the job's id as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

#[derive(Serialize)]
struct Submitted {
    job_id: String,
    submission_id: String,
    /// The submission id was known already.
    repeated: bool,
}

/// Submits, and watches when asked to.
///
/// # Errors
/// Bad input, a coordinator that is not there, and with `--watch` the job's failure. [`Interrupted`] by Ctrl-C once the
/// coordinator was asked.
pub(super) fn run(args: SubmitArgs) -> anyhow::Result<()> {
    let job = job_file::read(&args.job, args.sets)?;
    super::block_on(async {
        let mut client = args.coordinator.connect().await?;
        let submission_id = args.submission_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let submission = SubmitRequest {
            submission_id: submission_id.clone(),
            job_toml: job.text,
            overrides: job.overrides.into_iter().map(Into::into).collect(),
            job_root: job.root.display().to_string(),
        };
        // from here on Ctrl-C says what became of the job
        let mut interrupts = Interrupts::listen()?;
        let reply = tokio::select! {
            reply = client.submit(request(submission)) => answer(reply)?,
            () = interrupts.next() => return Err(unanswered(&submission_id)),
        };
        let (job_id, repeated) = (reply.job_id, reply.repeated);
        if args.json {
            return output::json(&Submitted { job_id, submission_id, repeated });
        }
        output::line(&job_id);
        if repeated {
            output::note("this submission was known already: it is the same job");
        }
        if !args.watch {
            output::note(format!(
                "next:\n  coordinator status {job_id}\n  coordinator logs {job_id} -f\n  coordinator cancel {job_id}"
            ));
            return Ok(());
        }
        match watch(&mut client, &job_id, &mut interrupts).await? {
            Seen::Over(status) => watch::conclude(&status),
            Seen::Interrupt => Err(Interrupted(format!(
                "the job goes on; `coordinator status {job_id}` says how far it is\n  to watch it again, add \
                 `--submission-id {submission_id}` to this command"
            ))
            .into()),
        }
    })
}

async fn watch(client: &mut Client, job_id: &str, interrupts: &mut Interrupts) -> Result<Seen, ApiError> {
    let mut watch = tokio::select! {
        watch = Watch::start(client, job_id) => watch?,
        () = interrupts.next() => return Ok(Seen::Interrupt),
    };
    watch.follow(interrupts).await
}

fn unanswered(submission_id: &str) -> anyhow::Error {
    let text = format!(
        "the coordinator has not answered: `coordinator ps` says whether the job was taken\n  to submit it once and not \
         twice, add `--submission-id {submission_id}` to this command"
    );
    Interrupted(text).into()
}
