//! Which requests are made of an API server, and what becomes of its answers: a scripted server stands in.

use super::cluster::{Cluster, Ensured};
use super::objects::{HASH_ANNOTATION, ID_ANNOTATION, Objects};
use super::tests::made;
use crate::launcher::LaunchError;
use axum::http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

const JOB: &str = "/apis/batch/v1/namespaces/accord/jobs/a-0011223344";
const JOBS: &str = "/apis/batch/v1/namespaces/accord/jobs";
const SERVICE: &str = "/api/v1/namespaces/accord/services/a-0011223344";
const SERVICES: &str = "/api/v1/namespaces/accord/services";

/// A request that is expected, and its answer.
struct Turn {
    method: &'static str,
    path: &'static str,
    status: u16,
    answer: Value,
}

fn turn(method: &'static str, path: &'static str, status: u16, answer: Value) -> Turn {
    Turn { method, path, status, answer }
}

/// As an API server refuses.
fn refusal(code: u16) -> Value {
    let reason = if code == 404 { "NotFound" } else { "Because" };
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": format!("said with {code}") })
}

/// A request as it came: its content type and body.
struct Seen {
    content_type: String,
    body: Value,
}

/// Runs `work` against a server that answers these, in this order and no others.
async fn against<T>(script: Vec<Turn>, work: impl AsyncFnOnce(Cluster) -> T) -> (T, Vec<Seen>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let server = tokio::spawn(async move {
        let mut seen = Vec::new();
        for Turn { method, path, status, answer } in script {
            let (request, reply) = handle.next_request().await.expect("a request");
            let asked = request.uri().path_and_query().unwrap().as_str();
            assert_eq!((request.method().as_str(), asked.trim_end_matches(['?', '&'])), (method, path));
            let content_type = request.headers().get("content-type").map(|v| v.to_str().unwrap().to_string());
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            seen.push(Seen { content_type: content_type.unwrap_or_default(), body });
            let answer = Body::from(serde_json::to_vec(&answer).unwrap());
            reply.send_response(Response::builder().status(status).body(answer).unwrap());
        }
        assert!(handle.next_request().await.is_none(), "more was asked than expected");
        seen
    });
    // the client goes with it, and the server sees that no more will come
    let done = work(Cluster::new(kube::Client::new(service, "accord"), "accord")).await;
    (done, server.await.unwrap())
}

async fn ensure(wanted: &Objects, script: Vec<Turn>) -> (Result<Ensured, LaunchError>, Vec<Seen>) {
    against(script, async |cluster| cluster.ensure(wanted).await).await
}

/// The wanted Job as the server keeps it, changed.
fn kept(wanted: &Objects, change: impl FnOnce(&mut Value)) -> Value {
    let mut job = serde_json::to_value(&wanted.job).unwrap();
    job["metadata"]["uid"] = "the-uid".into();
    change(&mut job);
    job
}

fn is_there(result: &Result<Ensured, LaunchError>) -> bool {
    matches!(result, Ok(Ensured::There(job)) if job.metadata.uid.as_deref() == Some("the-uid"))
}

#[tokio::test]
async fn a_job_is_created_and_then_its_service_which_goes_with_it() {
    let wanted = made("", 2).unwrap();
    let script = vec![
        turn("GET", JOB, 404, refusal(404)),
        turn("POST", JOBS, 201, kept(&wanted, |_| {})),
        turn("POST", SERVICES, 201, json!({ "metadata": { "name": "a-0011223344" } })),
    ];
    let (result, seen) = ensure(&wanted, script).await;
    assert!(is_there(&result), "{result:?}");
    assert_eq!(seen[1].body["metadata"]["name"], "a-0011223344");
    let owner = &seen[2].body["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("Job"), &json!("the-uid")));
}

#[tokio::test]
async fn what_is_there_already_is_looked_at_and_left() {
    let wanted = made("", 2).unwrap();
    let owners = json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "a-0011223344", "uid": "the-uid" }]);
    let service = json!({ "metadata": { "name": "a-0011223344", "ownerReferences": owners } });
    // a queue has let it go meanwhile: that is not taken back
    let released = kept(&wanted, |job| job["spec"]["suspend"] = false.into());
    let script = vec![
        turn("GET", JOB, 200, released),
        turn("POST", SERVICES, 409, refusal(409)),
        turn("GET", SERVICE, 200, service),
    ];
    let (result, _) = ensure(&wanted, script).await;
    assert!(is_there(&result), "{result:?}");

    // one of an earlier Job goes by itself: later
    let script = vec![
        turn("GET", JOB, 200, kept(&wanted, |_| {})),
        turn("POST", SERVICES, 409, refusal(409)),
        turn("GET", SERVICE, 200, json!({ "metadata": { "name": "a-0011223344" } })),
    ];
    assert_eq!(ensure(&wanted, script).await.0.unwrap(), Ensured::NotYet);
}

#[tokio::test]
async fn another_number_of_workers_is_patched_and_nothing_else() {
    let script = |wanted: &Objects| {
        vec![
            turn("GET", JOB, 200, kept(&made("", 2).unwrap(), |_| {})),
            turn("PATCH", JOB, 200, kept(wanted, |_| {})),
            turn("POST", SERVICES, 201, json!({ "metadata": { "name": "a-0011223344" } })),
        ]
    };
    let wanted = made("", 5).unwrap();
    let (result, seen) = ensure(&wanted, script(&wanted)).await;
    assert!(is_there(&result), "{result:?}");
    assert_eq!(seen[1].content_type, "application/merge-patch+json");
    assert_eq!(seen[1].body, json!({ "spec": { "completions": 5, "parallelism": 5 } }));
}

#[tokio::test]
async fn what_cannot_stay_is_deleted_before_it_is_made_anew() {
    let wanted = made("", 2).unwrap();
    let other_hash = kept(&wanted, |job| job["metadata"]["annotations"][HASH_ANNOTATION] = "other".into());
    let complete = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
    let over = kept(&wanted, |job| job["status"] = complete);
    for old in [other_hash, over] {
        let script = vec![turn("GET", JOB, 200, old.clone()), turn("DELETE", JOB, 200, old)];
        let (result, seen) = ensure(&wanted, script).await;
        assert_eq!(result.unwrap(), Ensured::NotYet);
        assert_eq!(seen[1].body["propagationPolicy"], "Foreground");
    }
    // gone between two looks, going, or made by another coordinator in the same moment: look again
    let going = kept(&wanted, |job| job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
    let other_hash = kept(&wanted, |job| job["metadata"]["annotations"][HASH_ANNOTATION] = "other".into());
    for script in [
        vec![turn("GET", JOB, 200, going)],
        vec![turn("GET", JOB, 200, other_hash), turn("DELETE", JOB, 404, refusal(404))],
        vec![turn("GET", JOB, 404, refusal(404)), turn("POST", JOBS, 409, refusal(409))],
    ] {
        assert_eq!(ensure(&wanted, script).await.0.unwrap(), Ensured::NotYet);
    }
}

#[tokio::test]
async fn a_job_of_somebody_else_is_not_touched() {
    let wanted = made("", 2).unwrap();
    for foreign in [
        kept(&wanted, |job| job["metadata"]["annotations"][ID_ANNOTATION] = "b-0011223344".into()),
        kept(&wanted, |job| job["metadata"]["annotations"] = json!({})),
    ] {
        let (result, _) = ensure(&wanted, vec![turn("GET", JOB, 200, foreign)]).await;
        let Err(LaunchError::Refused(text)) = result else { panic!("{result:?}") };
        assert!(text.contains("a-0011223344 that is not this job's"), "{text}");
    }
}

#[tokio::test]
async fn a_refusal_ends_a_job_and_trouble_of_the_server_does_not() {
    let wanted = made("", 2).unwrap();
    for (code, is_retryable) in [(400, false), (403, false), (422, false), (401, true), (500, true), (503, true)] {
        let script = vec![turn("GET", JOB, 404, refusal(404)), turn("POST", JOBS, code, refusal(code))];
        let error = ensure(&wanted, script).await.0.unwrap_err();
        assert_eq!(error.is_retryable(), is_retryable, "{code}: {error}");
        assert!(error.to_string().contains(&format!("said with {code}")), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let cluster = Cluster::new(kube::Client::new(service, "accord"), "accord");
    let silent = tokio::spawn(async move {
        let kept = handle.next_request().await;
        std::future::pending::<()>().await;
        drop(kept);
    });
    let error = cluster.ensure(&made("", 2).unwrap()).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("no answer within 15 s"), "{error}");
    silent.abort();
}

#[tokio::test]
async fn lists_ask_for_what_is_ours() {
    let jobs = json!({ "metadata": {}, "items": [
        { "metadata": { "name": "a-0", "annotations": { ID_ANNOTATION: "a-long-0" } } },
        { "metadata": { "name": "of-nobody" } },
    ] });
    let ours = "/apis/batch/v1/namespaces/accord/jobs?&labelSelector=app.kubernetes.io%2Fname%3Daccord-worker";
    let script = vec![turn("GET", ours, 200, jobs)];
    let (found, _) = against(script, async |cluster| cluster.all_jobs().await.unwrap()).await;
    assert_eq!(
        found.iter().map(|(name, id)| (name.as_str(), id.0.as_str())).collect::<Vec<_>>(),
        [("a-0", "a-long-0")]
    );
    let pods = "/api/v1/namespaces/accord/pods?&labelSelector=accord.dev%2Fjob%3Da-0";
    let script =
        vec![turn("GET", pods, 200, json!({ "metadata": {}, "items": [{ "metadata": { "name": "a-0-0" } }] }))];
    let (found, _) = against(script, async |cluster| cluster.pods_of("a-0").await.unwrap()).await;
    assert_eq!(found.len(), 1);
    let events = "/api/v1/namespaces/accord/events?&fieldSelector=involvedObject.kind%3DJob%2CinvolvedObject.name%3Da-0&limit=50";
    let script = vec![turn("GET", events, 200, json!({ "metadata": {}, "items": [] }))];
    assert!(against(script, async |cluster| cluster.events_of("a-0").await.unwrap()).await.0.is_empty());
}
