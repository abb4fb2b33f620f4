use super::super::{Change, Precondition, suite};
use super::*;
use redb::StorageBackend;
use redb::backends::FileBackend;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test(start_paused = true)]
async fn embedded_keeps_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    suite::run(&EmbeddedStore::open(&dir.path().join("store.redb")).unwrap()).await;
}

#[tokio::test]
async fn what_was_put_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    store.put("jobs/a", b"1".to_vec(), Precondition::Absent).await.unwrap();
    assert!(EmbeddedStore::open(&path).is_err(), "two processes must not share a store");
    drop(store);
    let stored = EmbeddedStore::open(&path).unwrap().get("jobs/a").await.unwrap();
    assert_eq!(stored, Some(Stored { value: b"1".to_vec(), version: 1 }));
}

#[tokio::test]
async fn keys_under_a_lease_end_with_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    store.write(Write::put("leader", b"me".to_vec(), Precondition::Absent).leased(lease)).await.unwrap();
    store.put("jobs/a", b"1".to_vec(), Precondition::Absent).await.unwrap();
    drop(store);
    let keys = EmbeddedStore::open(&path).unwrap().list("").await.unwrap();
    assert_eq!(keys.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["jobs/a"]);
}

/// A file whose disk fails, or takes its time, when it is told to.
#[derive(Clone, Debug)]
struct Disk {
    path: PathBuf,
    fails: Arc<AtomicBool>,
    /// While it is closed no write reaches the disk.
    closed: Arc<(std::sync::Mutex<bool>, Condvar)>,
    at_the_gate: Arc<tokio::sync::Notify>,
}

#[derive(Debug)]
struct Backend {
    file: FileBackend,
    disk: Disk,
}

impl Disk {
    fn new(path: PathBuf) -> Disk {
        Disk { path, fails: Arc::default(), closed: Arc::default(), at_the_gate: Arc::default() }
    }

    fn open(&self) -> Result<Database, DatabaseError> {
        self.check()?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        let backend = Backend { file: FileBackend::new(file)?, disk: self.clone() };
        Database::builder().create_with_backend(backend)
    }

    fn close(&self, is_closed: bool) {
        *self.closed.0.lock().unwrap() = is_closed;
        self.closed.1.notify_all();
    }

    fn check(&self) -> std::io::Result<()> {
        if self.fails.load(Ordering::SeqCst) { Err(std::io::Error::other("the disk fails")) } else { Ok(()) }
    }

    fn store(&self) -> EmbeddedStore {
        let disk = self.clone();
        EmbeddedStore::on(self.open().unwrap(), Box::new(move || disk.open())).unwrap()
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.disk.check().and_then(|()| self.file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.disk.check().and_then(|()| self.file.set_len(len))
    }

    fn sync_data(&self) -> std::io::Result<()> {
        let (closed, opened) = &*self.disk.closed;
        let mut closed = closed.lock().unwrap();
        while *closed {
            self.disk.at_the_gate.notify_one();
            closed = opened.wait(closed).unwrap();
        }
        self.disk.check().and_then(|()| self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.disk.check().and_then(|()| self.file.write(offset, data))
    }
}

#[tokio::test]
async fn a_disk_that_failed_is_used_again_once_it_works() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path().join("store.redb"));
    let store = disk.store();
    store.put("jobs/a", b"1".to_vec(), Precondition::Absent).await.unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    store.write(Write::put("leader", b"me".to_vec(), Precondition::Absent).leased(lease)).await.unwrap();
    let mut watch = store.watch("jobs/").await.unwrap();

    disk.fails.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let put = store.put("jobs/a", b"2".to_vec(), Precondition::Version(1)).await;
        assert!(matches!(&put, Err(e) if e.is_retryable()), "{put:?}");
    }
    assert_eq!(watch.next().await, None, "nobody knows what the watch has missed");

    disk.fails.store(false, Ordering::SeqCst);
    assert_eq!(store.put("jobs/a", b"2".to_vec(), Precondition::Version(1)).await.unwrap(), 2);
    let found = store.get("jobs/a").await.unwrap();
    assert_eq!(found, Some(Stored { value: b"2".to_vec(), version: 2 }));
    assert!(store.get("leader").await.unwrap().is_some(), "its lease has not ended");
    store.revoke(lease).await.unwrap();
    assert_eq!(store.get("leader").await.unwrap(), None);
}

#[tokio::test]
async fn a_put_whose_caller_gave_up_is_over_before_the_next_call() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path().join("store.redb"));
    let store = disk.store();
    let mut watch = store.watch("").await.unwrap();
    disk.close(true);
    tokio::select! {
        biased;
        done = store.put("jobs/a", b"1".to_vec(), Precondition::Absent) => panic!("the disk is closed: {done:?}"),
        () = disk.at_the_gate.notified() => {}
    }
    let (found, ()) = futures::join!(store.get("jobs/a"), async { disk.close(false) });
    assert_eq!(found.unwrap(), Some(Stored { value: b"1".to_vec(), version: 1 }));
    let told = watch.next().await;
    assert_eq!(told, Some(Change { key: "jobs/a".into(), stored: Some(Stored { value: b"1".to_vec(), version: 1 }) }));
}
