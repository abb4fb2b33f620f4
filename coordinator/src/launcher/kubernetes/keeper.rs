//! Looks after the objects of one job: the only one who creates and deletes them, in the order that it was told, and who
//! watches them and says what it sees.

use super::cluster::{Cluster, Ensured, Watch};
use super::objects::Objects;
use super::picture::{self, Picture};
use crate::launcher::{Exit, LaunchError, SightSink, Sighting};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Between two steps towards the objects, and two looks at events.
const STEP_EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// An API server that is away for longer keeps no job from failing.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);
/// Pods whose work is done end by themselves; those that have not by then are ended.
const DONE_WITHIN: Duration = Duration::from_secs(90);

pub(super) enum Order {
    Launch {
        objects: Box<Objects>,
        workers: u32,
        sink: SightSink,
        reply: oneshot::Sender<Result<(), LaunchError>>,
    },
    Adopt {
        workers: u32,
        sink: SightSink,
        reply: oneshot::Sender<Result<usize, LaunchError>>,
    },
    /// Another generation follows, with the same pods.
    Follow,
    /// Its workers did all there was to do.
    Finish,
    End,
}

pub(super) struct Keeper {
    name: String,
    cluster: Cluster,
    orders: mpsc::UnboundedReceiver<Order>,
    /// An order that came while another was carried out.
    next: Option<Order>,
    picture: Picture,
    /// The pods of a list that is being read anew.
    listed: BTreeMap<String, Pod>,
    sink: Option<SightSink>,
    workers: u32,
    /// What the sink knows.
    waits: Option<String>,
    is_broken: bool,
}

impl Keeper {
    pub(super) fn new(name: String, cluster: Cluster, orders: mpsc::UnboundedReceiver<Order>) -> Keeper {
        Keeper {
            name,
            cluster,
            orders,
            next: None,
            picture: Picture::default(),
            listed: BTreeMap::new(),
            sink: None,
            workers: 0,
            waits: None,
            is_broken: false,
        }
    }

    /// Until nobody gives orders any more, or `is_idle` says, after an end, that there are none.
    pub(super) async fn run(mut self, is_idle: impl Fn(&mpsc::UnboundedReceiver<Order>) -> bool) {
        let (mut jobs, mut pods): (Watch<Job>, Watch<Pod>) = self.cluster.watch(&self.name);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let order = match self.next.take() {
                Some(order) => Some(order),
                None => tokio::select! {
                    order = self.orders.recv() => match order {
                        Some(order) => Some(order),
                        None => return,
                    },
                    Some(event) = jobs.next() => { self.job_event(event); None }
                    Some(event) = pods.next() => { self.pod_event(event).await; None }
                    _ = look.tick() => { self.look().await; None }
                },
            };
            match order {
                None => self.tell().await,
                Some(order) => {
                    if self.obey(order).await && self.next.is_none() && is_idle(&self.orders) {
                        return;
                    }
                }
            }
        }
    }

    /// Whether the objects are gone.
    async fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Launch { objects, workers, sink, reply } => {
                self.follow(workers, sink);
                let done = self.ensure(&objects).await;
                // whoever launched may not wait any more
                let _ = reply.send(done);
                false
            }
            Order::Adopt { workers, sink, reply } => {
                self.follow(workers, sink);
                let _ = reply.send(self.adopt().await);
                false
            }
            Order::Follow => {
                self.sink = None;
                false
            }
            Order::Finish => {
                self.sink = None;
                self.until_done().await
            }
            Order::End => {
                self.sink = None;
                self.end().await
            }
        }
    }

    fn follow(&mut self, workers: u32, sink: SightSink) {
        (self.workers, self.sink) = (workers, Some(sink));
        (self.waits, self.is_broken) = (None, false);
    }

    async fn ensure(&mut self, objects: &Objects) -> Result<(), LaunchError> {
        let until = Instant::now() + GIVE_UP_AFTER;
        loop {
            let cluster = self.cluster.clone();
            let step = tokio::select! {
                step = cluster.ensure(objects) => step,
                order = self.orders.recv() => return self.superseded(order),
            };
            match step {
                Ok(Ensured::There(job)) => {
                    self.behold(*job);
                    return Ok(());
                }
                Ok(Ensured::NotYet) => self.say_waits(Some("the pods of before are still ending".into())).await,
                Err(LaunchError::Unreachable(why)) if Instant::now() < until => {
                    self.say_waits(Some(format!("the API server cannot be asked: {why}"))).await;
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(STEP_EVERY) => {}
                order = self.orders.recv() => return self.superseded(order),
            }
        }
    }

    fn superseded(&mut self, order: Option<Order>) -> Result<(), LaunchError> {
        self.next = order;
        Err(LaunchError::Unreachable("the launch was called off".into()))
    }

    /// Pods that may be at work.
    async fn adopt(&mut self) -> Result<usize, LaunchError> {
        let Some(job) = self.cluster.job(&self.name).await? else { return Ok(0) };
        if job.metadata.deletion_timestamp.is_some() || picture::is_finished(&job) {
            return Ok(0);
        }
        let pods = self.cluster.pods_of(&self.name).await?;
        self.behold(job.clone());
        let at_work = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        Ok(pods.iter().filter(|pod| picture::is_of(pod, &job) && at_work(pod)).count())
    }

    /// The Job stays, to be looked at, once its pods are done.
    async fn until_done(&mut self) -> bool {
        let until = Instant::now() + DONE_WITHIN;
        while Instant::now() < until {
            match self.cluster.job(&self.name).await {
                Ok(None) => return true,
                Ok(Some(job)) if picture::is_finished(&job) => return true,
                Ok(Some(_)) => {}
                Err(error) => tracing::debug!(job = self.name, %error, "cannot see whether the Job is done"),
            }
            tokio::select! {
                () = tokio::time::sleep(STEP_EVERY) => {}
                order = self.orders.recv() => {
                    self.next = order;
                    return false;
                }
            }
        }
        tracing::warn!(job = self.name, "its pods have not ended by themselves");
        self.end().await
    }

    async fn end(&mut self) -> bool {
        let until = Instant::now() + GIVE_UP_AFTER;
        loop {
            match self.cluster.delete(&self.name).await {
                Ok(()) => return true,
                Err(error) if error.is_retryable() && Instant::now() < until => {
                    tracing::debug!(job = self.name, %error, "cannot delete the Job yet");
                }
                Err(error) => {
                    tracing::error!(job = self.name, %error, "the Job is left behind; the next coordinator deletes it");
                    return true;
                }
            }
            // an order to launch comes after this
            tokio::time::sleep(STEP_EVERY).await;
        }
    }

    /// From now on this very Job is meant, and none of before.
    fn behold(&mut self, job: Job) {
        if self.is_another(&job) {
            self.picture.events.clear();
        }
        self.picture.pods.retain(|_, pod| picture::is_of(pod, &job));
        self.picture.job = Some(job);
    }

    fn is_another(&self, job: &Job) -> bool {
        self.picture.job.as_ref().is_some_and(|known| known.metadata.uid != job.metadata.uid)
    }

    fn job_event(&mut self, event: Result<Event<Job>, kube::runtime::watcher::Error>) {
        match event {
            Ok(Event::Apply(job) | Event::InitApply(job) | Event::Delete(job)) if self.is_another(&job) => {}
            Ok(Event::Apply(job) | Event::InitApply(job)) => self.behold(job),
            Ok(Event::Delete(_)) => self.picture = Picture::default(),
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => tracing::debug!(job = self.name, %error, "the watch of the Job begins again"),
        }
    }

    async fn pod_event(&mut self, event: Result<Event<Pod>, kube::runtime::watcher::Error>) {
        match event {
            Ok(Event::Apply(pod)) => self.seen(pod).await,
            Ok(Event::Delete(pod)) => self.gone(&pod.name_any()).await,
            Ok(Event::Init) => self.listed.clear(),
            Ok(Event::InitApply(pod)) => drop(self.listed.insert(pod.name_any(), pod)),
            Ok(Event::InitDone) => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<String> =
                    self.picture.pods.keys().filter(|pod| !listed.contains_key(*pod)).cloned().collect();
                for pod in gone {
                    self.gone(&pod).await;
                }
                for pod in listed.into_values() {
                    self.seen(pod).await;
                }
            }
            Err(error) => tracing::debug!(job = self.name, %error, "the watch of the pods begins again"),
        }
    }

    async fn seen(&mut self, pod: Pod) {
        // the Job may be seen after its pods
        if self.picture.job.as_ref().is_some_and(|job| !picture::is_of(&pod, job)) {
            return;
        }
        let name = pod.name_any();
        let ended_before = self.picture.pods.get(&name).and_then(picture::end_of).is_some();
        let end = picture::end_of(&pod).filter(|_| !ended_before);
        self.picture.pods.insert(name.clone(), pod);
        if let Some(how) = end {
            self.say(Sighting::Exit(Exit { worker: name, pid: 0, how })).await;
        }
    }

    async fn gone(&mut self, name: &str) {
        let Some(pod) = self.picture.pods.remove(name) else { return };
        let was_alive =
            pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| p == "Running" || p == "Pending");
        if was_alive {
            let how = "was deleted with its pod".into();
            self.say(Sighting::Exit(Exit { worker: name.into(), pid: 0, how })).await;
        }
    }

    /// Events are many: they are read only while pods are missing.
    async fn look(&mut self) {
        if self.sink.is_some() && self.picture.live().count() < self.workers as usize {
            match self.cluster.events_of(&self.name).await {
                Ok(events) => self.picture.events = events,
                Err(error) => tracing::debug!(job = self.name, %error, "the Job's events cannot be read"),
            }
        }
    }

    async fn tell(&mut self) {
        if let Some(failure) = self.picture.job.as_ref().and_then(picture::broken)
            && !self.is_broken
        {
            self.is_broken = true;
            self.say(Sighting::Broken(failure)).await;
        }
        let waits = self.picture.waits(self.workers);
        self.say_waits(waits).await;
    }

    async fn say_waits(&mut self, waits: Option<String>) {
        if self.waits != waits {
            self.waits.clone_from(&waits);
            self.say(Sighting::Waits(waits)).await;
        }
    }

    async fn say(&self, sighting: Sighting) {
        if let Some(sink) = &self.sink {
            sink(sighting).await;
        }
    }
}
