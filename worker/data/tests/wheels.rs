//! Wheels through a stand-in for the interpreter: no network in tests.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]
#![cfg(unix)]

use accord_data::wheel::{WheelError, fetch_into, members, read_member};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// A shell script in the interpreter's place; `$dest` is pip's target folder.
    fn python(&self, script: &str) -> PathBuf {
        let path = self.folder.path().join("python3");
        let head = "#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\ndest=$2\n";
        fs::write(&path, format!("{head}{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn fetch(&self, python: &Path, limit: Duration) -> Result<PathBuf, WheelError> {
        fetch_into(&self.cache(), "Some-Set", "1.2", limit, python)
    }

    fn cached(&self) -> usize {
        fs::read_dir(self.cache()).unwrap().count()
    }
}

fn wheel() -> Vec<u8> {
    use std::io::Write as _;
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file("set/a.inter", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(b"user_id:token\n1\n").unwrap();
    archive.finish().unwrap().into_inner()
}

#[test]
fn wheel_is_fetched_once_and_read() {
    let place = Place::new();
    let source = place.folder.path().join("source.whl");
    fs::write(&source, wheel()).unwrap();
    let python = place.python(&format!("cp {} $dest/some_set-1.2-py3-none-any.whl", source.display()));
    let path = place.fetch(&python, LIMIT).unwrap();
    assert!(path.ends_with("cache/some_set-1.2-py3-none-any.whl"));
    assert_eq!(place.cached(), 1, "the partial folder is gone");
    assert_eq!(members(&path).unwrap(), ["set/a.inter"]);
    assert_eq!(read_member(&path, "set/a.inter").unwrap(), b"user_id:token\n1\n");
    let missing = read_member(&path, "set/b.inter").unwrap_err().to_string();
    assert!(missing.ends_with("has no member `set/b.inter`: is it the right version"), "{missing}");

    // from the cache: no interpreter is needed any more
    assert_eq!(place.fetch(Path::new("/nowhere/python3"), LIMIT).unwrap(), path);

    let mut damaged = wheel();
    damaged[45] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(read_member(&path, "set/a.inter"), Err(WheelError::Damaged { .. })));
}

#[test]
fn each_way_to_fail_says_what_to_do() {
    let place = Place::new();
    let error = place.fetch(Path::new("/nowhere/python3"), LIMIT).unwrap_err();
    assert!(matches!(error, WheelError::NoPython { .. }), "{error}");
    assert!(error.to_string().contains("install Python 3 with pip"), "{error}");

    let python = place.python("echo \"$0: No module named pip\" >&2; exit 1");
    assert!(matches!(place.fetch(&python, LIMIT), Err(WheelError::NoPip { .. })));

    let python = place.python("echo 'ERROR: No matching distribution found' >&2; echo; exit 1");
    let error = place.fetch(&python, LIMIT).unwrap_err().to_string();
    let expected = format!(
        "pip cannot fetch Some-Set==1.2 (ERROR: No matching distribution found): check the network, or put the wheel into {}",
        place.cache().display()
    );
    assert_eq!(error, expected);

    let python = place.python("exit 0");
    assert!(matches!(place.fetch(&python, LIMIT), Err(WheelError::NotFetched { .. })));
    assert_eq!(place.cached(), 0, "failures leave nothing behind");
}

#[test]
fn hanging_interpreter_is_ended_at_the_limit() {
    let place = Place::new();
    let python = place.python("exec sleep 600");
    let started = Instant::now();
    assert!(matches!(place.fetch(&python, Duration::from_millis(300)), Err(WheelError::TimedOut { .. })));
    assert!(started.elapsed() < Duration::from_secs(60));
}
