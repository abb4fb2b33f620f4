use super::super::suite;
use super::*;
use crate::election::{Candidate, campaign, leader};
use server::Member;
use std::path::Path;
use std::time::Instant;

const WITHIN: Duration = Duration::from_secs(60);

fn config(members: &[Member]) -> EtcdConfig {
    EtcdConfig { endpoints: members.iter().map(|m| m.endpoint.clone()).collect(), ..EtcdConfig::default() }
}

async fn store(members: &[Member]) -> EtcdStore {
    EtcdStore::connect(&config(members)).await.unwrap()
}

/// Repeats a read until the store answers.
async fn recovered(store: &EtcdStore, key: &str) -> Option<Stored> {
    let until = Instant::now() + WITHIN;
    loop {
        match store.get(key).await {
            Ok(found) => return found,
            Err(error) => assert!(error.is_retryable() && Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn etcd_keeps_the_suite() {
    let Some(members) = server::start(1) else { return };
    let store = store(&members).await;
    suite::run(&store).await;
    let beside = EtcdConfig { prefix: "/beside/".into(), ..config(&members) };
    let beside = EtcdStore::connect(&beside).await.unwrap();
    assert!(beside.list("").await.unwrap().is_empty(), "a prefix of its own");
    assert!(!store.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn an_etcd_that_was_killed_comes_back_with_everything() {
    let Some(mut members) = server::start(1) else { return };
    let store = store(&members).await;
    store.put("jobs/a", b"1".to_vec(), Precondition::Absent).await.unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    store.write(Write::put("leader", b"me".to_vec(), Precondition::Absent).leased(lease)).await.unwrap();
    let mut watch = store.watch("jobs/").await.unwrap();

    members[0].kill();
    assert_eq!(timeout(WITHIN, watch.next()).await.unwrap(), None, "the watch says that it has ended");
    let unavailable = |result: &Result<(), StoreError>| matches!(result, Err(StoreError::Unavailable(_)));
    for _ in 0..3 {
        let get = store.get("jobs/a").await.map(drop);
        assert!(unavailable(&get), "{get:?}");
        let put = store.put("jobs/a", b"2".to_vec(), Precondition::Version(1)).await.map(drop);
        assert!(unavailable(&put), "{put:?}");
        let kept = store.keep_alive(lease).await;
        assert!(unavailable(&kept), "{kept:?}");
        let watch = store.watch("jobs/").await.map(drop);
        assert!(unavailable(&watch), "{watch:?}");
    }

    members[0].restart();
    assert_eq!(recovered(&store, "jobs/a").await, Some(Stored { value: b"1".to_vec(), version: 1 }));
    store.keep_alive(lease).await.unwrap();
    assert!(store.get("leader").await.unwrap().is_some());
    assert_eq!(store.put("jobs/a", b"2".to_vec(), Precondition::Version(1)).await.unwrap(), 2);
}

#[tokio::test]
async fn one_dead_member_of_three_is_not_noticed() {
    let Some(mut members) = server::start(3) else { return };
    let store = store(&members).await;
    store.put("jobs/a", b"1".to_vec(), Precondition::Absent).await.unwrap();
    // the one that is being asked
    members[0].kill();
    // the others elect a leader first if that was it
    recovered(&store, "jobs/a").await;
    for version in 1..20 {
        store.put("jobs/a", vec![0], Precondition::Version(version)).await.unwrap();
        assert_eq!(store.list("jobs/").await.unwrap().len(), 1);
    }
    let again = EtcdStore::connect(&config(&members)).await.expect("the first member is dead, the others are not");
    assert!(again.get("jobs/a").await.unwrap().is_some());
}

#[tokio::test]
async fn a_frozen_member_of_three_costs_its_share_of_a_call() {
    let Some(members) = server::start(3) else { return };
    let store = store(&members).await;
    store.put("jobs/a", b"1".to_vec(), Precondition::Absent).await.unwrap();
    members[0].freeze();
    assert!(recovered(&store, "jobs/a").await.is_some());
    store.put("jobs/a", b"2".to_vec(), Precondition::Version(1)).await.unwrap();
}

#[tokio::test]
async fn candidates_on_etcd_follow_each_other() {
    let Some(members) = server::start(1) else { return };
    let ttl = Duration::from_secs(3);
    let candidate = |id: &str| Candidate { id: id.into(), address: format!("{id}.example:7411") };
    let here: Arc<dyn ClusterStore> = Arc::new(store(&members).await);
    let there: Arc<dyn ClusterStore> = Arc::new(store(&members).await);
    let first = timeout(WITHIN, campaign(Arc::clone(&here), &candidate("a"), ttl)).await.unwrap().unwrap();
    let fence = first.fence();
    here.write(Write::put("jobs/a", b"a".to_vec(), Precondition::Absent).fenced(fence.clone())).await.unwrap();

    // it dies: nobody keeps its lease alive
    let second = tokio::spawn(async move { campaign(there, &candidate("b"), ttl).await });
    let fallen = first.lost();
    drop(first);
    timeout(WITHIN, fallen).await.unwrap();
    let second = timeout(WITHIN, second).await.unwrap().unwrap().unwrap();
    assert_eq!(leader(here.as_ref()).await.unwrap().unwrap().id, "b");
    let late = here.write(Write::put("jobs/a", b"late".to_vec(), Precondition::Version(1)).fenced(fence)).await;
    assert!(matches!(late, Err(StoreError::Fenced { .. })), "{late:?}");

    let third = tokio::spawn(async move { campaign(here, &candidate("c"), ttl).await });
    second.resign().await.unwrap();
    let third = timeout(WITHIN, third).await.unwrap().unwrap().unwrap();
    assert!(third.is_held());
}

#[tokio::test]
async fn a_user_needs_the_password() {
    let Some(mut members) = server::start(1) else { return };
    let client = Client::connect([members[0].endpoint.as_str()], None).await.unwrap();
    let mut auth = client.auth_client();
    auth.user_add("root", "right", None).await.unwrap();
    auth.user_grant_role("root", "root").await.unwrap();
    auth.auth_enable().await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let with = |password: &str| {
        let password_file = dir.path().join("password");
        std::fs::write(&password_file, password).unwrap();
        EtcdConfig { user: Some(EtcdUser { name: "root".into(), password_file }), ..config(&members) }
    };
    let without = EtcdStore::connect(&config(&members)).await.map(drop);
    assert!(matches!(without, Err(StoreError::Refused(_))), "{without:?}");
    let wrong = EtcdStore::connect(&with("wrong\n")).await.map(drop);
    assert!(matches!(wrong, Err(StoreError::Refused(_))), "{wrong:?}");
    let store = EtcdStore::connect(&with("right\n")).await.unwrap();
    store.put("jobs/a", b"1".to_vec(), Precondition::Absent).await.unwrap();

    // it forgets who has come in
    members[0].kill();
    members[0].restart();
    assert!(recovered(&store, "jobs/a").await.is_some());
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    store.keep_alive(lease).await.unwrap();
    store.watch("jobs/").await.unwrap();
}

/// A self-signed certificate of 127.0.0.1 and its key.
fn certificate(dir: &Path, name: &str) -> Option<EtcdIdentity> {
    let identity =
        EtcdIdentity { cert_file: dir.join(format!("{name}.pem")), key_file: dir.join(format!("{name}.key")) };
    let mut openssl = std::process::Command::new("openssl");
    openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=etcd".split(' '));
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(&identity.key_file).arg("-out").arg(&identity.cert_file);
    openssl.output().is_ok_and(|made| made.status.success()).then_some(identity)
}

#[tokio::test]
async fn both_sides_show_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(own), Some(other)) = (certificate(dir.path(), "own"), certificate(dir.path(), "other")) else {
        eprintln!("SKIPPED: no openssl that makes certificates");
        return;
    };
    let file = |path: &Path| path.to_str().unwrap().to_string();
    let cert = file(&own.cert_file);
    let flags = ["--cert-file", &cert, "--key-file", &file(&own.key_file), "--trusted-ca-file", &cert];
    let flags: Vec<String> = flags.iter().map(|s| s.to_string()).chain(["--client-cert-auth".into()]).collect();
    let Some(members) = server::start_with(1, "https", &flags) else { return };
    let with = |ca_file: &Path, identity: Option<&EtcdIdentity>| {
        let tls = EtcdTls { ca_file: ca_file.into(), identity: identity.cloned() };
        EtcdConfig { tls: Some(tls), ..config(&members) }
    };
    let store = EtcdStore::connect(&with(&own.cert_file, Some(&own))).await.unwrap();
    store.put("jobs/a", b"1".to_vec(), Precondition::Absent).await.unwrap();
    for wrong in [with(&own.cert_file, None), with(&own.cert_file, Some(&other)), with(&other.cert_file, Some(&own))] {
        let error = EtcdStore::connect(&wrong).await.map(drop).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
}

#[tokio::test]
async fn a_silent_etcd_is_given_up_in_time() {
    // it accepts, and never says a word
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let config = EtcdConfig { endpoints: vec![endpoint.clone()], timeout_ms: 300, ..EtcdConfig::default() };
    let asked = Instant::now();
    let error = EtcdStore::connect(&config).await.map(drop).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains(&endpoint), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let tls = |ca_file| Some(EtcdTls { ca_file, identity: None });
    std::fs::write(&ca_file, "no certificate").unwrap();
    let with = |change: &dyn Fn(&mut EtcdConfig)| {
        let mut config = EtcdConfig::default();
        change(&mut config);
        config
    };
    let cases = [
        ("endpoints", with(&|c| c.endpoints.clear())),
        ("prefix", with(&|c| c.prefix.clear())),
        ("invalid uri", with(&|c| c.endpoints = vec!["http://".into()])),
        ("HTTPS", with(&|c| c.tls = tls(ca_file.clone()))),
        ("missing.pem", with(&|c| c.tls = tls(dir.path().join("missing.pem")))),
    ];
    for (word, config) in cases {
        let error = EtcdStore::connect(&config).await.map(drop).unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains(word), "{word}: {error}");
    }
}
