//! `coordinator render`: a job as the objects that a coordinator would create, before anything is created.

use super::{Usage, job_file, output};
use crate::config::{ServeConfig, ServeOverrides};
use crate::job::JobId;
use crate::launcher::kubernetes::objects::{Blueprint, Objects, Platform, objects};
use crate::membership::Timeouts;
use accord_spec::Override;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What `submit` to k8s/base would use.
const BASE_SETTINGS: &str = include_str!("../../../k8s/base/serve.toml");
/// The coordinator makes a token for each job; one that was printed would be none.
const TOKEN_PLACEHOLDER: &str = "set-by-the-coordinator";

/// Print the Kubernetes objects that a coordinator would create for a job
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator render configs/amazon-8gpu.toml
  coordinator render job.toml --serve-config serve.toml | kubectl apply --dry-run=server -f -
  coordinator render job.toml --kind jobset --submission-id nightly-2026-05-01

For reviews, policy checks and dry runs: what `submit` creates has the token that workers prove themselves with in the
place of `set-by-the-coordinator`, and the digest of that. Without --serve-config the settings are those of k8s/base.")]
pub(super) struct RenderArgs {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    job: PathBuf,
    /// Override a key of the job file; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<Override>,
    /// The coordinator's settings [default: those of k8s/base]
    #[arg(long, value_name = "serve.toml")]
    serve_config: Option<PathBuf>,
    /// The submission whose objects these are: it is part of their name
    #[arg(long, value_name = "ID", default_value = "rendered")]
    submission_id: String,
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A Service and an Indexed Job, as a coordinator creates them
    #[default]
    Job,
    /// The same pods in a JobSet (jobset.x-k8s.io), for platforms that take nothing else
    Jobset,
}

/// # Errors
/// A bad job file or bad settings.
pub(super) fn run(args: RenderArgs) -> anyhow::Result<()> {
    let job = job_file::read(&args.job, args.sets)?;
    let config = match &args.serve_config {
        Some(path) => ServeConfig::load(Some(path), ServeOverrides { insecure: true, ..ServeOverrides::default() })?,
        None => toml::from_str(BASE_SETTINGS)?,
    };
    let Some(settings) = config.kubernetes.clone() else {
        return Err(Usage(
            "the settings have no [kubernetes]: workers would be processes of the coordinator's machine".into(),
        )
        .into());
    };
    let platform = Platform {
        namespace: settings.namespace.clone().unwrap_or_else(|| "default".into()),
        runs_dir: ServeConfig::runs_dir(&config.state_dir),
        tls_name: config.tls.as_ref().and_then(|tls| tls.name.clone()),
        settings,
    };
    let id = JobId::of(&job.spec.job.name, &args.submission_id);
    let made = objects(Blueprint {
        job: &id,
        spec: &job.spec,
        workers: job.spec.cluster.workers,
        token: TOKEN_PLACEHOLDER,
        coordinators: &config.coordinators,
        detect_within_ms: Timeouts::of(&job.spec.recovery).silent_ms,
        alone_ms: job.spec.recovery.coordinator_within_ms,
        platform: &platform,
    });
    let made = made.map_err(|e| Usage(format!("{}: {e}", args.job.display())))?;
    output::line(yaml(&made, args.kind)?.trim_end());
    Ok(())
}

/// Documents of one file.
fn yaml(objects: &Objects, kind: Kind) -> anyhow::Result<String> {
    let documents = match kind {
        Kind::Job => vec![serde_json::to_value(&objects.service)?, serde_json::to_value(&objects.job)?],
        Kind::Jobset => vec![jobset(objects)?],
    };
    let documents = documents.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(documents.join("---\n"))
}

/// One replicated Job; the JobSet makes the Service.
fn jobset(objects: &Objects) -> anyhow::Result<Value> {
    let (metadata, spec) = (&objects.job.metadata, objects.job.spec.clone().unwrap_or_default());
    // a JobSet is suspended, and ends, as a whole
    let mut job = spec.clone();
    (job.suspend, job.ttl_seconds_after_finished) = (None, None);
    Ok(json!({
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "suspend": spec.suspend.unwrap_or(false),
            "ttlSecondsAfterFinished": spec.ttl_seconds_after_finished,
            "network": { "enableDNSHostnames": true, "publishNotReadyAddresses": true },
            // the Job replaces pods; one that fails as a whole is the coordinator's to make anew
            "failurePolicy": { "maxRestarts": 0 },
            "replicatedJobs": [{ "name": "workers", "replicas": 1, "template": { "spec": job } }],
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_the_base_are_those_of_a_cluster() {
        let config: ServeConfig = toml::from_str(BASE_SETTINGS).unwrap();
        assert!(config.kubernetes.is_some() && !config.coordinators.is_empty());
    }
}
