//! One PyPI wheel by name and version, through the user's own pip, kept in the user's cache; and its members.
//! Knows no registry: pip does, with whatever index the machine is set up for.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Why a wheel or a member of it is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    #[error("python3 cannot be started ({source}): install Python 3 with pip, or put {wheel} into {}", cache.display())]
    NoPython { wheel: String, cache: PathBuf, source: io::Error },
    #[error("python3 has no pip: install it (Debian: apt-get install python3-pip), or put {wheel} into {}", cache.display())]
    NoPip { wheel: String, cache: PathBuf },
    #[error("pip did not fetch {wheel} within {} s: check the network, or put the wheel into {}", limit.as_secs(), cache.display())]
    TimedOut { wheel: String, limit: Duration, cache: PathBuf },
    #[error("pip cannot fetch {wheel} ({reason}): check the network, or put the wheel into {}", cache.display())]
    NotFetched { wheel: String, reason: String, cache: PathBuf },
    #[error("no folder for the cache: set HOME or XDG_CACHE_HOME")]
    NoCache,
    #[error("{} cannot be {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    #[error("{}: {why}: delete the file, it will be fetched again", wheel.display())]
    Damaged { wheel: PathBuf, why: String },
    #[error("{} has no member `{member}`: is it the right version", wheel.display())]
    NoMember { wheel: PathBuf, member: String },
}

/// A member larger than this is not what this project puts into a wheel.
const MEMBER_LIMIT_BYTES: u64 = 1 << 30;

/// The folder of everything this project keeps for a user: `$XDG_CACHE_HOME/accord`, or `~/.cache/accord`.
pub fn cache_folder() -> Result<PathBuf, WheelError> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").filter(|p| p.is_absolute()).or_else(|| Some(set("HOME")?.join(".cache")));
    cache.map(|c| c.join("accord")).ok_or(WheelError::NoCache)
}

/// The wheel `name` at `version`, from the cache or by `python3 -m pip download`; blocks for `limit` at most.
pub fn fetch(name: &str, version: &str, limit: Duration) -> Result<PathBuf, WheelError> {
    fetch_into(&cache_folder()?.join("wheels"), name, version, limit, Path::new("python3"))
}

/// As [`fetch`], with the cache's folder and the interpreter given.
pub fn fetch_into(
    cache: &Path,
    name: &str,
    version: &str,
    limit: Duration,
    python: &Path,
) -> Result<PathBuf, WheelError> {
    if let Some(wheel) = find(cache, name, version) {
        return Ok(wheel);
    }
    fs::create_dir_all(cache).map_err(|source| WheelError::Io { path: cache.into(), action: "made", source })?;
    // pip writes into a folder of this process; the wheel gets its name when it is whole
    let partial = crate::durable::temporary(&cache.join(name));
    fs::create_dir_all(&partial).map_err(|source| WheelError::Io { path: partial.clone(), action: "made", source })?;
    let fetched = download(cache, &partial, name, version, limit, python);
    // a leftover folder does no harm, and the result matters more
    let _ = fs::remove_dir_all(&partial);
    fetched
}

/// A file name's `recbole-1.2.1-` for `recbole==1.2.1`.
fn find(folder: &Path, name: &str, version: &str) -> Option<PathBuf> {
    let start = format!("{}-{version}-", normal(name));
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| {
            let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            file.ends_with(".whl") && normal(&file).starts_with(&normal(&start))
        })
        .collect();
    found.sort();
    found.into_iter().next()
}

/// Wheel names spell `-` and `.` as `_`, in any case.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}

fn download(
    cache: &Path,
    partial: &Path,
    name: &str,
    version: &str,
    limit: Duration,
    python: &Path,
) -> Result<PathBuf, WheelError> {
    let wheel = format!("{name}=={version}");
    let log = partial.join("pip.log");
    let open = || File::create(&log).map_err(|source| WheelError::Io { path: log.clone(), action: "made", source });
    let output = open()?;
    let errors = output.try_clone().map_err(|source| WheelError::Io { path: log.clone(), action: "made", source })?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(partial)
        .arg(&wheel)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let mut child =
        pip.spawn().map_err(|source| WheelError::NoPython { wheel: wheel.clone(), cache: cache.into(), source })?;
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            outcome => {
                // both fail only when the child has ended by itself
                let _ = child.kill();
                let _ = child.wait();
                return Err(match outcome {
                    Err(source) => WheelError::Io { path: python.into(), action: "waited for", source },
                    Ok(_) => WheelError::TimedOut { wheel, limit, cache: cache.into() },
                });
            }
        }
    };
    let said = fs::read(&log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    if !status.success() {
        if said.contains("No module named pip") {
            return Err(WheelError::NoPip { wheel, cache: cache.into() });
        }
        return Err(WheelError::NotFetched { wheel, reason: last_words(&said), cache: cache.into() });
    }
    let found = find(partial, name, version).ok_or_else(|| WheelError::NotFetched {
        wheel,
        reason: "pip ended well and left no such wheel".into(),
        cache: cache.into(),
    })?;
    let target = cache.join(found.file_name().unwrap_or_default());
    fs::rename(&found, &target).map_err(|source| WheelError::Io { path: target.clone(), action: "written", source })?;
    Ok(target)
}

/// The last line that pip marked as an error, or said at all.
fn last_words(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|l| !l.is_empty()).rev();
    let last = lines.clone().next().unwrap_or("it said nothing");
    lines.find(|l| l.starts_with("ERROR")).unwrap_or(last).to_owned()
}

/// Names of a wheel's members.
pub fn members(wheel: &Path) -> Result<Vec<String>, WheelError> {
    Ok(open(wheel)?.file_names().map(String::from).collect())
}

/// The bytes of one member, checked against the checksum the wheel carries.
pub fn read_member(wheel: &Path, member: &str) -> Result<Vec<u8>, WheelError> {
    let damaged = |why: String| WheelError::Damaged { wheel: wheel.into(), why };
    let mut archive = open(wheel)?;
    let mut entry = match archive.by_name(member) {
        Ok(entry) => entry,
        Err(zip::result::ZipError::FileNotFound) => {
            return Err(WheelError::NoMember { wheel: wheel.into(), member: member.into() });
        }
        Err(e) => return Err(damaged(e.to_string())),
    };
    if entry.size() > MEMBER_LIMIT_BYTES {
        return Err(damaged(format!("member `{member}` claims {} bytes", entry.size())));
    }
    let size = entry.size();
    let mut bytes = Vec::new();
    entry.by_ref().take(size + 1).read_to_end(&mut bytes).map_err(|e| damaged(format!("member `{member}`: {e}")))?;
    if bytes.len() as u64 != size {
        return Err(damaged(format!("member `{member}` is not the {size} bytes it claims")));
    }
    Ok(bytes)
}

fn open(wheel: &Path) -> Result<zip::ZipArchive<File>, WheelError> {
    let file = File::open(wheel).map_err(|source| WheelError::Io { path: wheel.into(), action: "read", source })?;
    zip::ZipArchive::new(file).map_err(|e| WheelError::Damaged { wheel: wheel.into(), why: e.to_string() })
}
