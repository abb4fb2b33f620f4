//! The command line: one file per subcommand. Parses, calls, prints; decides nothing about jobs.
//!
//! Exit codes, stable: 0 done; 1 the job failed or something did not work; 2 the input cannot be used (arguments, job
//! file, data); 130 interrupted by the user, who may go on with the same command.

mod checkpoints;
mod client;
mod completions;
pub mod data;
mod events;
pub mod export;
mod job_file;
mod logs;
pub mod output;
mod plan;
mod progress;
mod ps;
pub mod recommend;
mod render;
mod run;
mod serve;
mod shown;
mod status;
mod steer;
mod submit;
pub mod verify;
mod watch;

use accord_data::DataError;
use accord_objects::dataset::FetchError;
use accord_proto::status::{ApiError, ErrorCode};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::time::Duration;

/// The user gave something that cannot be used: exit code 2, the message is all they need.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The user stopped the command: exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Interrupted(String);

/// Trains LLM-intent recommenders (LightGCN, RLMRec-Con, IRLLRec) on this machine, or through a coordinator
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 the job failed or something did not work; 2 the input cannot be used; \
                          130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Plan(plan::PlanArgs),
    Render(render::RenderArgs),
    Serve(serve::ServeArgs),
    Submit(submit::SubmitArgs),
    Ps(ps::PsArgs),
    Status(status::StatusArgs),
    Logs(logs::LogsArgs),
    Events(events::EventsArgs),
    Cancel(steer::CancelArgs),
    Suspend(steer::SuspendArgs),
    Resume(steer::ResumeArgs),
    Scale(steer::ScaleArgs),
    Data(data::DataArgs),
    Export(export::ExportArgs),
    Recommend(recommend::RecommendArgs),
    Checkpoints(checkpoints::CheckpointsArgs),
    Verify(verify::VerifyArgs),
    Completions(completions::CompletionsArgs),
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli.command);
    let done = match cli.command {
        // its answer is its exit code
        Command::Verify(args) => verify::run(args),
        Command::Run(args) => run::run(args).map(success),
        Command::Plan(args) => plan::run(args).map(success),
        Command::Render(args) => render::run(args).map(success),
        Command::Serve(args) => serve::run(args).map(success),
        Command::Submit(args) => submit::run(args).map(success),
        Command::Ps(args) => ps::run(args).map(success),
        Command::Status(args) => status::run(args).map(success),
        Command::Logs(args) => logs::run(args).map(success),
        Command::Events(args) => events::run(args).map(success),
        Command::Cancel(args) => steer::cancel(args).map(success),
        Command::Suspend(args) => steer::suspend(args).map(success),
        Command::Resume(args) => steer::resume(args).map(success),
        Command::Scale(args) => steer::scale(args).map(success),
        Command::Data(args) => data::run(args).map(success),
        Command::Export(args) => export::run(args).map(success),
        Command::Recommend(args) => recommend::run(args).map(success),
        Command::Checkpoints(args) => checkpoints::run(args).map(success),
        Command::Completions(args) => completions::run(&args).map(success),
    };
    // an answer that nobody could read is no answer
    let done = done.and_then(|code| output::finish().map(|()| code));
    done.unwrap_or_else(|error| {
        let code = exit_code(&error);
        let label = if code == INTERRUPTED { "interrupted" } else { "error" };
        output::note(format!("{label}: {}", explained(&error)));
        ExitCode::from(code)
    })
}

/// An error and its causes, each said once: some name their cause themselves.
fn explained(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| match (said.is_empty(), cause.to_string()) {
        (true, cause) => cause,
        (false, cause) if said.ends_with(&cause) => said,
        (false, cause) => format!("{said}: {cause}"),
    })
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

const INTERRUPTED: u8 = 130;

fn exit_code(error: &anyhow::Error) -> u8 {
    // a dataset that cannot be read is the user's to change, like an argument; a disk that takes nothing more is not
    match error.downcast_ref::<DataError>() {
        Some(error) => return if error.is_bad_input() { 2 } else { 1 },
        None if error.is::<Usage>() => return 2,
        None => {}
    }
    if error.downcast_ref::<FetchError>().is_some_and(|e| !e.is_retryable()) {
        return 2;
    }
    if error.is::<Interrupted>() {
        return INTERRUPTED;
    }
    match error.downcast_ref::<ApiError>().map(|e| e.code) {
        Some(ErrorCode::BadInput | ErrorCode::UnknownJob | ErrorCode::Unauthenticated | ErrorCode::WrongRole) => 2,
        _ => 1,
    }
}

/// The log goes to stderr. `serve` says what it does; the other commands only what goes wrong.
fn start_log(command: &Command) {
    use tracing_subscriber::EnvFilter;
    let default = if matches!(command, Command::Serve(_)) { "info" } else { "error" };
    let filter = EnvFilter::try_from_env("ACCORD_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // a second subscriber in one process (a test) is fine to refuse
    let _ = match command {
        Command::Serve(args) if args.log_format == serve::LogFormat::Json => log.json().flatten_event(true).try_init(),
        _ => log.with_ansi(output::stderr_is_terminal()).try_init(),
    };
}

/// How long a thread that is stuck, on a disk that does not answer, may keep the process from ending.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Runs a command that talks to a coordinator.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(END_WITHIN);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_argument_is_well_formed_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let group = command.has_subcommands();
            assert!(group || help.contains("Example"), "{} --help has no example", command.get_name());
        }
    }

    #[test]
    fn a_stuck_thread_does_not_keep_a_command_from_ending() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let work = async move {
            drop(tokio::task::spawn_blocking(move || held.recv_timeout(Duration::from_secs(30))));
            Ok(7)
        };
        let begin = std::time::Instant::now();
        assert_eq!(block_on(work).unwrap(), 7);
        assert!(begin.elapsed() < Duration::from_secs(20));
        drop(release);
    }

    #[test]
    fn exit_codes_are_stable() {
        assert_eq!(exit_code(&Usage("bad".into()).into()), 2);
        assert_eq!(exit_code(&ApiError::new(ErrorCode::BadInput, "bad").into()), 2);
        assert_eq!(exit_code(&ApiError::new(ErrorCode::UnknownJob, "none").into()), 2);
        assert_eq!(exit_code(&ApiError::new(ErrorCode::Unauthenticated, "who").into()), 2);
        assert_eq!(exit_code(&ApiError::new(ErrorCode::WrongRole, "reads only").into()), 2);
        assert_eq!(exit_code(&ApiError::new(ErrorCode::Internal, "broke").into()), 1);
        assert_eq!(exit_code(&anyhow::anyhow!("broke")), 1);
        assert_eq!(exit_code(&Interrupted("stopped".into()).into()), 130);
    }
}
