//! The few requests that a coordinator makes of an API server, each with a deadline. No server-side apply: it would take
//! back what a queue or an autoscaler set.

use super::objects::{APP, APP_LABEL, HASH_ANNOTATION, ID_ANNOTATION, JOB_LABEL, Objects, owned_by};
use super::picture::is_finished;
use crate::job::JobId;
use crate::launcher::LaunchError;
use futures::Stream;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::pin::Pin;
use std::time::Duration;

/// Of one request; watches have deadlines of their own.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const CONFLICT: u16 = 409;
const NOT_FOUND: u16 = 404;

/// A watch that begins again by itself.
pub(super) type Watch<K> = Pin<Box<dyn Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send>>;

/// One namespace of a cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    jobs: Api<Job>,
    services: Api<Service>,
    pods: Api<Pod>,
    events: Api<Event>,
}

/// What became of a wish for a job's objects.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ensured {
    /// They are there, as wished.
    There(Box<Job>),
    /// Those of before have to go first.
    NotYet,
}

impl Cluster {
    pub(super) fn new(client: Client, namespace: &str) -> Cluster {
        Cluster {
            jobs: Api::namespaced(client.clone(), namespace),
            services: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            events: Api::namespaced(client, namespace),
        }
    }

    /// Takes one step towards the objects; safe to repeat, and with another coordinator at it.
    pub(super) async fn ensure(&self, wanted: &Objects) -> Result<Ensured, LaunchError> {
        let name = wanted.job.name_any();
        let Some(job) = asked(self.jobs.get_opt(&name)).await? else {
            return match asked(self.jobs.create(&PostParams::default(), &wanted.job)).await {
                Ok(job) => self.serve(wanted, &job).await,
                // somebody was faster: look again
                Err(Failed { code: CONFLICT, .. }) => Ok(Ensured::NotYet),
                Err(failed) => Err(failed.into()),
            };
        };
        if job.metadata.deletion_timestamp.is_some() {
            return Ok(Ensured::NotYet);
        }
        let ours = |job: &Job, key: &str| job.annotations().get(key).cloned();
        if ours(&job, ID_ANNOTATION) != ours(&wanted.job, ID_ANNOTATION) {
            let text =
                format!("there is a Job {name} that is not this job's: delete it, or submit under another job.name");
            return Err(LaunchError::Refused(text));
        }
        if is_finished(&job) || ours(&job, HASH_ANNOTATION) != ours(&wanted.job, HASH_ANNOTATION) {
            self.delete(&name).await?;
            return Ok(Ensured::NotYet);
        }
        let workers = wanted.job.spec.as_ref().and_then(|spec| spec.completions);
        if job.spec.as_ref().is_some_and(|spec| (spec.completions, spec.parallelism) != (workers, workers)) {
            let scaled = Patch::Merge(json!({ "spec": { "completions": workers, "parallelism": workers } }));
            asked(self.jobs.patch(&name, &PatchParams::default(), &scaled)).await?;
        }
        self.serve(wanted, &job).await
    }

    async fn serve(&self, wanted: &Objects, job: &Job) -> Result<Ensured, LaunchError> {
        let service = owned_by(wanted.service.clone(), job);
        match asked(self.services.create(&PostParams::default(), &service)).await {
            Ok(_) => Ok(Ensured::There(Box::new(job.clone()))),
            Err(Failed { code: CONFLICT, .. }) => {
                // one of before goes with its Job
                let known = asked(self.services.get_opt(&service.name_any())).await?;
                let is_ours =
                    known.is_some_and(|known| known.metadata.owner_references == service.metadata.owner_references);
                Ok(if is_ours { Ensured::There(Box::new(job.clone())) } else { Ensured::NotYet })
            }
            Err(failed) => Err(failed.into()),
        }
    }

    /// The Job, and with it its pods and its Service; it is seen until they are gone.
    pub(super) async fn delete(&self, name: &str) -> Result<(), LaunchError> {
        match asked(self.jobs.delete(name, &DeleteParams::foreground())).await {
            Ok(_) | Err(Failed { code: NOT_FOUND, .. }) => Ok(()),
            Err(failed) => Err(failed.into()),
        }
    }

    pub(super) async fn job(&self, name: &str) -> Result<Option<Job>, LaunchError> {
        Ok(asked(self.jobs.get_opt(name)).await?)
    }

    pub(super) async fn pods_of(&self, name: &str) -> Result<Vec<Pod>, LaunchError> {
        let labels = format!("{JOB_LABEL}={name}");
        Ok(asked(self.pods.list(&ListParams::default().labels(&labels))).await?.items)
    }

    /// The newest events of a Job itself, such as that its pods may not be created.
    pub(super) async fn events_of(&self, name: &str) -> Result<Vec<Event>, LaunchError> {
        let fields = format!("involvedObject.kind=Job,involvedObject.name={name}");
        Ok(asked(self.events.list(&ListParams::default().fields(&fields).limit(50))).await?.items)
    }

    /// Name and id of every job of ours.
    pub(super) async fn all_jobs(&self) -> Result<Vec<(String, JobId)>, LaunchError> {
        let ours = ListParams::default().labels(&format!("{APP_LABEL}={APP}"));
        let jobs = asked(self.jobs.list(&ours)).await?.items;
        let id = |job: &Job| job.annotations().get(ID_ANNOTATION).cloned();
        Ok(jobs.iter().filter_map(|job| Some((job.name_any(), JobId(id(job)?)))).collect())
    }

    pub(super) fn watch(&self, name: &str) -> (Watch<Job>, Watch<Pod>) {
        let of = watcher::Config::default().labels(&format!("{JOB_LABEL}={name}"));
        let jobs = watcher(self.jobs.clone(), of.clone()).default_backoff();
        let pods = watcher(self.pods.clone(), of).default_backoff();
        (Box::pin(jobs), Box::pin(pods))
    }
}

/// A request that was not done.
struct Failed {
    /// Of HTTP; 0: nobody answered.
    code: u16,
    text: String,
}

impl From<Failed> for LaunchError {
    fn from(Failed { code, text }: Failed) -> LaunchError {
        match code {
            // may be otherwise in a moment: a conflict, too many requests, an expired token, a server's own trouble
            0 | 401 | CONFLICT | 429 | 500.. => LaunchError::Unreachable(text),
            _ => LaunchError::Refused(text),
        }
    }
}

async fn asked<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    match tokio::time::timeout(ANSWER_WITHIN, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(Failed { code: status.code, text: status.message.clone() }),
        Ok(Err(error)) => Err(Failed { code: 0, text: error.to_string() }),
        Err(_) => Err(Failed { code: 0, text: format!("no answer within {} s", ANSWER_WITHIN.as_secs()) }),
    }
}
