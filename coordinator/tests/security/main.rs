//! A whole control plane with TLS, tokens and bounds, and what it does with those who have no business there: each is
//! refused with the right code, and the server goes on serving.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod commands;
mod metrics;
mod stage;

use accord_coordinator::server::{DataRoots, Role};
use accord_proto::MAX_MESSAGE_BYTES;
use accord_proto::job::jobs_client::JobsClient;
use accord_proto::job::{JobRequest, ListRequest, LogsRequest, SubmitRequest};
use accord_proto::status::{ApiError, ErrorCode};
use stage::{Certificates, Settings, Stage, bearer, job, register, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

const SUBMIT: &str = "a-token-that-may-submit";
const READ: &str = "a-token-that-may-only-read";

async fn guarded() -> Stage {
    Settings::new().token("ci", Role::Submit, SUBMIT).token("board", Role::Read, READ).start().await
}

fn submission(id: &str) -> SubmitRequest {
    SubmitRequest { submission_id: id.into(), job_toml: job("tiny"), job_root: "/data".into(), ..Default::default() }
}

/// The code of a refusal.
fn refused<T>(result: Result<T, tonic::Status>) -> ErrorCode {
    match result {
        Ok(_) => panic!("it was let in"),
        Err(status) => ApiError::from(status).code,
    }
}

/// `List`, as proof that the server still serves.
async fn lists(channel: Channel, token: &str) -> usize {
    within(JobsClient::new(channel).list(bearer(ListRequest {}, token))).await.unwrap().into_inner().jobs.len()
}

#[tokio::test]
async fn a_client_without_a_token_with_a_wrong_one_or_in_a_wrong_role_is_refused() {
    let stage = guarded().await;
    let channel = stage.channel().await;
    let mut client = JobsClient::new(channel.clone());
    assert_eq!(refused(client.list(ListRequest {}).await), ErrorCode::Unauthenticated);
    assert_eq!(refused(client.submit(submission("a")).await), ErrorCode::Unauthenticated);
    let wrong = "a-token-that-nobody-knows";
    assert_eq!(refused(client.list(bearer(ListRequest {}, wrong)).await), ErrorCode::Unauthenticated);
    assert_eq!(refused(client.submit(bearer(submission("a"), READ)).await), ErrorCode::WrongRole);
    assert_eq!(lists(channel.clone(), READ).await, 0, "nobody who was refused submitted");

    let job_id = client.submit(bearer(submission("a"), SUBMIT)).await.unwrap().into_inner().job_id;
    let of_job = || JobRequest { job_id: job_id.clone() };
    assert_eq!(client.status(bearer(of_job(), READ)).await.unwrap().into_inner().job_id, job_id);
    assert!(client.watch(bearer(of_job(), READ)).await.is_ok());
    let logs = LogsRequest { job_id: job_id.clone(), ..Default::default() };
    assert!(client.logs(bearer(logs, READ)).await.is_ok());
    assert_eq!(refused(client.cancel(bearer(of_job(), READ)).await), ErrorCode::WrongRole);
    assert_eq!(refused(client.suspend(bearer(of_job(), READ)).await), ErrorCode::WrongRole);
    assert!(client.cancel(bearer(of_job(), SUBMIT)).await.is_ok());
    let text = stage.metrics.render(&[]).unwrap();
    for line in [
        "accord_grpc_requests_total{code=\"Unauthenticated\",method=\"accord.job.v1.Jobs/List\"} 2",
        "accord_grpc_requests_total{code=\"PermissionDenied\",method=\"accord.job.v1.Jobs/Submit\"} 1",
        "accord_grpc_requests_total{code=\"Ok\",method=\"accord.job.v1.Jobs/List\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains(SUBMIT) && !text.contains(wrong), "{text}");
}

#[tokio::test]
async fn a_worker_with_another_jobs_token_is_refused_and_its_own_lets_it_in() {
    let stage = guarded().await;
    let mut client = JobsClient::new(stage.channel().await);
    for id in ["one", "two"] {
        client.submit(bearer(submission(id), SUBMIT)).await.unwrap();
    }
    let (first, second) = (stage.launched().await, stage.launched().await);
    assert_ne!(first.token, second.token);
    assert_eq!(refused(register(stage.channel().await, &first.job, &second.token).await), ErrorCode::WrongToken);
    // a client's token is no worker's
    assert_eq!(refused(register(stage.channel().await, &first.job, SUBMIT).await), ErrorCode::WrongToken);
    // nor is a worker's a client's
    assert_eq!(refused(client.list(bearer(ListRequest {}, &first.token)).await), ErrorCode::Unauthenticated);
    assert!(register(stage.channel().await, &first.job, &first.token).await.is_ok());
}

#[tokio::test]
async fn random_bytes_end_in_a_closed_connection_and_nothing_else() {
    let stage = guarded().await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..40 {
        let mut stream = TcpStream::connect(stage.address()).await.unwrap();
        let mut bytes: Vec<u8> = Vec::new();
        if round % 2 == 1 {
            // as far as the preface and the settings frame it is a client
            bytes.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        }
        for _ in 0..(round * 20) + 1 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        // the server may hang up before all of it is written
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = within(stream.read_to_end(&mut answer)).await;
        // settings, pings and a reason to go away; no echo of state
        assert!(answer.len() < 1024, "round {round}: {} bytes", answer.len());
    }
    assert_eq!(lists(stage.channel().await, READ).await, 0);
}

#[tokio::test]
async fn an_oversized_message_an_endless_header_and_an_unknown_method_are_refused() {
    let stage = guarded().await;
    let channel = stage.channel().await;
    let mut client = JobsClient::new(channel.clone());
    let large = SubmitRequest { job_toml: "#".repeat(MAX_MESSAGE_BYTES + 1), ..submission("large") };
    assert_eq!(client.submit(bearer(large, SUBMIT)).await.unwrap_err().code(), Code::OutOfRange);
    let long = JobRequest { job_id: "x".repeat(100_000) };
    let error = client.status(bearer(long, READ)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().len() < 200, "{}", error.message().len());
    let mut endless = bearer(ListRequest {}, READ);
    endless.metadata_mut().insert("x-endless", "y".repeat(40_000).parse().unwrap());
    assert!(client.list(endless).await.is_err());

    let unknown = |path: &'static str, token: &'static str| {
        let channel = channel.clone();
        async move {
            let mut client = tonic::client::Grpc::new(channel);
            client.ready().await.unwrap();
            let codec = ProstCodec::<ListRequest, ListRequest>::default();
            client.unary(bearer(ListRequest {}, token), path.parse().unwrap(), codec).await.unwrap_err().code()
        }
    };
    for path in ["/accord.job.v1.Jobs/Drop", "/no.such.Service/Method", "/"] {
        assert_eq!(within(unknown(path, SUBMIT)).await, Code::Unimplemented, "{path}");
        // who may not do everything is not told what there is
        assert_eq!(within(unknown(path, READ)).await, Code::PermissionDenied, "{path}");
        assert_eq!(within(unknown(path, "nobody-knows-this-one")).await, Code::Unauthenticated, "{path}");
    }
    let text = stage.metrics.render(&[]).unwrap();
    assert!(text.contains("accord_grpc_requests_total{code=\"Unimplemented\",method=\"other\"} 3"), "{text}");
    assert_eq!(lists(channel, READ).await, 0);
}

#[tokio::test]
async fn data_outside_the_roots_is_refused_at_submission() {
    let dir = tempfile::tempdir().unwrap();
    let roots = DataRoots::under(&[dir.path().into()]).unwrap();
    let stage = Settings::new().roots(roots).start().await;
    let mut client = JobsClient::new(stage.channel().await);
    std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
    let inside = dir.path().display().to_string();
    for (job_root, path) in [("/etc", "."), (&inside, "link"), (&inside, "../.."), (&inside, "/etc")] {
        let job_toml = job(path);
        let wanted = SubmitRequest { job_toml, job_root: job_root.into(), ..submission("a") };
        let error = ApiError::from(client.submit(wanted).await.unwrap_err());
        assert_eq!(error.code, ErrorCode::BadInput);
        assert!(error.message.contains("data_roots"), "{error}");
    }
    let wanted = SubmitRequest { job_root: inside, ..submission("a") };
    assert!(client.submit(wanted).await.is_ok());
}

#[tokio::test]
async fn tls_lets_in_who_trusts_the_right_authority_and_nobody_in_clear() {
    let certificates = Certificates::new();
    let stage = Settings::new().tls(&certificates, false).token("board", Role::Read, READ).start().await;
    assert_eq!(lists(stage.channel_with(&certificates.trusting(None)).await.unwrap(), READ).await, 0);
    let stranger = Certificates::new();
    assert!(stage.channel_with(&stranger.trusting(None)).await.is_err(), "another authority");
    let plain = Channel::from_shared(format!("http://{}", stage.address())).unwrap();
    let plain = within(plain.connect()).await;
    let spoken = match plain {
        Ok(channel) => within(JobsClient::new(channel).list(bearer(ListRequest {}, READ))).await.is_ok(),
        Err(_) => false,
    };
    assert!(!spoken, "no TLS, no answer");
}

#[tokio::test]
async fn mutual_tls_asks_clients_for_a_certificate_and_workers_for_their_jobs_token() {
    let certificates = Certificates::new();
    let stage = Settings::new().tls(&certificates, true).start().await;
    let known = certificates.trusting(Some("client"));
    let mut client = JobsClient::new(stage.channel_with(&known).await.unwrap());
    assert!(client.submit(submission("a")).await.is_ok());
    let nobody = stage.channel_with(&certificates.trusting(None)).await.unwrap();
    assert_eq!(refused(JobsClient::new(nobody.clone()).list(ListRequest {}).await), ErrorCode::Unauthenticated);
    let launch = stage.launched().await;
    assert!(register(nobody, &launch.job, &launch.token).await.is_ok());
    // signed by an authority that the server does not know
    let forged = Certificates::new();
    let forged = accord_proto::tls::ClientTls { identity: forged.trusting(Some("client")).identity, ..known };
    let answer = match stage.channel_with(&forged).await {
        Ok(channel) => within(JobsClient::new(channel).list(ListRequest {})).await.is_ok(),
        Err(_) => false,
    };
    assert!(!answer, "a certificate of another authority");
}

#[tokio::test]
async fn workers_check_the_certificate_by_what_serve_tells_them() {
    let certificates = Certificates::new();
    let server = certificates.server(false);
    let loopback = "127.0.0.1".parse().unwrap();
    let good = certificates.trusting(None);
    assert_eq!(server.try_out(loopback, &good).await, Ok(()));
    let named = |name: &str| accord_proto::tls::ClientTls { name: Some(name.into()), ..good.clone() };
    assert_eq!(server.try_out(loopback, &named("localhost")).await, Ok(()));
    assert!(server.try_out(loopback, &named("elsewhere.example")).await.is_err());
    assert!(server.try_out(loopback, &Certificates::new().trusting(None)).await.is_err());
}

async fn health(channel: Channel, service: &str) -> Result<ServingStatus, tonic::Status> {
    let wanted = HealthCheckRequest { service: service.into() };
    within(HealthClient::new(channel).check(wanted)).await.map(|reply| reply.into_inner().status())
}

#[tokio::test]
async fn health_is_told_to_everybody_and_says_so_when_the_coordinator_goes_down() {
    let stage = guarded().await;
    let channel = stage.channel().await;
    for service in ["", "accord.job.v1.Jobs", "accord.worker.v1.Workers"] {
        assert_eq!(health(channel.clone(), service).await.unwrap(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(health(channel.clone(), "no.such.Service").await.unwrap_err().code(), Code::NotFound);
    // watching is a client's business: it is let in, and hears of the end
    let watch = bearer(HealthCheckRequest::default(), READ);
    let mut told = within(HealthClient::new(channel).watch(watch)).await.unwrap().into_inner();
    assert_eq!(within(told.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    let down = tokio::spawn(stage.stop());
    assert_eq!(within(told.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    within(down).await.unwrap();
}

#[tokio::test]
async fn reflection_lists_the_services_to_who_may_read() {
    let stage = guarded().await;
    let ask = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        tokio_stream::once(ServerReflectionRequest { host: String::new(), message_request })
    };
    let mut client = ServerReflectionClient::new(stage.channel().await);
    assert_eq!(client.server_reflection_info(ask()).await.unwrap_err().code(), Code::Unauthenticated);
    let mut wanted = Request::new(ask());
    wanted.metadata_mut().insert("authorization", format!("Bearer {READ}").parse().unwrap());
    let mut replies = within(client.server_reflection_info(wanted)).await.unwrap().into_inner();
    let reply: ServerReflectionResponse = within(replies.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else { panic!("{reply:?}") };
    let names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
    for service in ["accord.job.v1.Jobs", "accord.worker.v1.Workers", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == service), "{names:?}");
    }
}
