//! Workers as pods: one headless Service and one Indexed Job per job, which stay from its first generation to its last.
//! The Job replaces pods; who is in a generation is the coordinator's to say, and workers begin each one anew by
//! themselves.
//!
//! # Layout
//! * [`objects`]: a job as objects. `overlay`: what the job file merges into the pod. `check`: mistakes. All pure.
//! * `picture`: what the objects say about the job (pure).
//! * `cluster`: the requests. `keeper`: the one task that makes them for a job, and watches.
//! * `settings`: `[kubernetes]` of serve.toml.

mod check;
mod cluster;
mod keeper;
pub mod objects;
mod overlay;
mod picture;
mod settings;

pub use settings::KubernetesSettings;

use super::{LaunchError, LaunchRequest, Launcher, Next};
use crate::job::JobId;
use accord_spec::JobSpec;
use cluster::Cluster;
use futures::future::BoxFuture;
use keeper::{Keeper, Order};
use objects::{Blueprint, Platform};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// To reach the API server.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

type Keepers = HashMap<JobId, mpsc::UnboundedSender<Order>>;

pub struct KubernetesLauncher {
    cluster: Cluster,
    platform: Platform,
    keepers: Arc<Mutex<Keepers>>,
}

/// Where the coordinator finds its cluster: its service account's, or the kubeconfig's; and the namespace there.
///
/// # Errors
/// [`LaunchError::Unreachable`] when there is neither.
pub async fn connect(settings: &KubernetesSettings) -> Result<(kube::Client, String), LaunchError> {
    let unreachable = |e: &dyn std::fmt::Display| LaunchError::Unreachable(e.to_string());
    let mut config = kube::Config::infer().await.map_err(|e| unreachable(&e))?;
    config.connect_timeout = Some(CONNECT_WITHIN);
    let namespace = settings.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = kube::Client::try_from(config).map_err(|e| unreachable(&e))?;
    Ok((client, namespace))
}

impl KubernetesLauncher {
    pub fn new(client: kube::Client, platform: Platform) -> KubernetesLauncher {
        let cluster = Cluster::new(client, &platform.namespace);
        KubernetesLauncher { cluster, platform, keepers: Arc::default() }
    }

    fn keepers(&self) -> MutexGuard<'_, Keepers> {
        // a lock poisoned between two map operations guards a whole map
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To the keeper of a job; `or_new`: to one that begins with it.
    fn order(&self, job: &JobId, order: Order, or_new: bool) {
        let mut keepers = self.keepers();
        if let Some(keeper) = keepers.get(job) {
            // it leaves the map before it ends
            let _ = keeper.send(order);
            return;
        }
        if !or_new {
            return;
        }
        let (sender, orders) = mpsc::unbounded_channel();
        let _ = sender.send(order);
        keepers.insert(job.clone(), sender);
        let keeper = Keeper::new(objects::name_of(job), self.cluster.clone(), orders);
        let (keepers, job) = (Arc::clone(&self.keepers), job.clone());
        tokio::spawn(keeper.run(move |orders| {
            let mut keepers = keepers.lock().unwrap_or_else(PoisonError::into_inner);
            let is_idle = orders.is_empty();
            if is_idle {
                keepers.remove(&job);
            }
            is_idle
        }));
    }
}

async fn answer<T>(reply: oneshot::Receiver<Result<T, LaunchError>>) -> Result<T, LaunchError> {
    let gone = || LaunchError::Unreachable("the launch was called off".into());
    reply.await.unwrap_or_else(|_| Err(gone()))
}

impl Launcher for KubernetesLauncher {
    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<(), LaunchError>> {
        Box::pin(async move {
            let objects = objects::objects(Blueprint {
                job: &request.job,
                spec: &request.spec,
                workers: request.wanted,
                token: &request.token,
                coordinators: &request.coordinators,
                detect_within_ms: request.detect_within_ms,
                alone_ms: request.alone_ms,
                platform: &self.platform,
            });
            let objects = Box::new(objects.map_err(|e| LaunchError::Refused(e.to_string()))?);
            let (reply, done) = oneshot::channel();
            let launch = Order::Launch { objects, workers: request.wanted, sink: request.sink, reply };
            self.order(&request.job, launch, true);
            answer(done).await
        })
    }

    fn adopt(&self, request: LaunchRequest) -> BoxFuture<'_, Result<usize, LaunchError>> {
        Box::pin(async move {
            let (reply, done) = oneshot::channel();
            self.order(&request.job, Order::Adopt { workers: request.wanted, sink: request.sink, reply }, true);
            answer(done).await
        })
    }

    fn release(&self, job: &JobId, _generation: u64, _grace: Duration, next: Next) {
        match next {
            Next::Generation => self.order(job, Order::Follow, false),
            Next::Success => self.order(job, Order::Finish, true),
            Next::End => self.order(job, Order::End, true),
        }
    }

    /// Pods train on; the next coordinator adopts them.
    fn shut_down(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        self.let_go();
        Box::pin(async {})
    }

    fn let_go(&self) {
        // a keeper ends when nobody can give it orders, and when it has carried out those it has
        self.keepers().clear();
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn shares_run_dirs(&self) -> bool {
        self.platform.settings.runs_claim.is_some()
    }

    fn check(&self, job: &JobId, spec: &JobSpec) -> Result<(), String> {
        let coordinators = ["http://coordinator".to_string()];
        let made = objects::objects(Blueprint {
            job,
            spec,
            workers: accord_spec::MAX_WORKERS,
            token: "",
            coordinators: &coordinators,
            detect_within_ms: 0,
            alone_ms: 0,
            platform: &self.platform,
        });
        made.map(drop).map_err(|e| e.to_string())
    }

    fn sweep(&self, ended: Vec<JobId>) {
        let cluster = self.cluster.clone();
        tokio::spawn(async move {
            let ended: HashSet<JobId> = ended.into_iter().collect();
            let jobs = match cluster.all_jobs().await {
                Ok(jobs) => jobs,
                Err(error) => return tracing::warn!(%error, "what earlier coordinators left cannot be looked for"),
            };
            for (name, job) in jobs.into_iter().filter(|(_, job)| ended.contains(job)) {
                tracing::info!(%job, "a Job of an earlier coordinator is deleted: the job is over");
                if let Err(error) = cluster.delete(&name).await {
                    tracing::warn!(%job, %error, "it cannot be deleted");
                }
            }
        });
    }
}

#[cfg(test)]
mod requests;
#[cfg(test)]
mod tests;
