//! `coordinator events`: what happened to a job.

use super::client::CoordinatorArgs;
use super::{output, shown};
use accord_proto::job::EventsRequest;
use accord_proto::status::ApiError;
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Print what happened to a job: starts, checkpoints, failures and who caused them, recoveries
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator events ml-100k-irllrec-0a1b2c3d4e
  coordinator events ml-100k-irllrec-0a1b2c3d4e -f --json")]
pub(super) struct EventsArgs {
    /// Job id, as `submit` and `ps` print it
    #[arg(value_name = "JOB")]
    job: String,
    /// Go on until the job is over
    #[arg(short, long)]
    follow: bool,
    /// One JSON object a line, as in metrics.jsonl
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

/// # Errors
/// A job or coordinator that is not there.
pub(super) fn run(args: EventsArgs) -> anyhow::Result<()> {
    super::block_on(async {
        let mut client = args.coordinator.connect().await?;
        let wanted = EventsRequest { job_id: args.job, follow: args.follow };
        let mut lines = client.events(wanted).await.map_err(ApiError::from)?.into_inner();
        while output::is_open()
            && let Some(batch) = lines.message().await.map_err(ApiError::from)?
        {
            for line in &batch.lines {
                output::line(if args.json { line.clone() } else { readable(line) });
            }
        }
        Ok(())
    })
}

#[derive(Deserialize)]
struct Event {
    at_unix_ms: u64,
    event: String,
    #[serde(flatten)]
    about: Map<String, Value>,
}

/// `3m05s ago  lost  generation 1, step 420: worker-1 ...`; a line of another version as it is.
fn readable(line: &str) -> String {
    let Ok(Event { at_unix_ms, event, mut about }) = serde_json::from_str(line) else { return line.into() };
    about.remove("kind");
    let reason = about.remove("reason");
    let facts: Vec<String> = about.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let reason = reason.as_ref().and_then(Value::as_str).map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{:>7} ago  {event:<18} {}{reason}", shown::age(at_unix_ms), facts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_a_sentence_and_a_foreign_line_as_it_is() {
        let line =
            r#"{"kind":"event","at_unix_ms":0,"event":"lost","generation":1,"step":420,"reason":"worker-1 died"}"#;
        let shown = readable(line);
        assert!(shown.contains("lost"), "{shown}");
        assert!(shown.ends_with("generation 1, step 420: worker-1 died"), "{shown}");
        assert_eq!(readable("not json"), "not json");
    }
}
