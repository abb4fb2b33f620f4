//! Worker processes that another coordinator started: found in /proc by their arguments, held by a pidfd, which never
//! means another process.

use crate::job::JobId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getuid, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Between two looks whether one has ended: its parent would be told, but its parent is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One that lives, or is a zombie of somebody else's.
pub(super) struct Stray {
    pub(super) worker: String,
    pub(super) generation: u64,
    pub(super) pid: u32,
    handle: OwnedFd,
}

impl Stray {
    /// Waits until the process has ended. How it did is told to its parent alone.
    pub(super) async fn ended(&self) {
        while self.lives() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A pidfd is readable once its process has ended. One that cannot be asked is taken for ended.
    fn lives(&self) -> bool {
        let mut asked = [PollFd::new(&self.handle, PollFlags::IN)];
        matches!(poll(&mut asked, Some(&Timespec::default())), Ok(0) | Err(Errno::INTR))
    }

    pub(super) fn kill(&self) {
        if let Err(error) = pidfd_send_signal(&self.handle, Signal::KILL)
            && error != Errno::SRCH
        {
            tracing::warn!(worker = self.worker, pid = self.pid, %error, "cannot kill the worker");
        }
    }
}

/// This user's workers of a job, of whichever generation.
pub(super) fn find(job: &JobId) -> io::Result<Vec<Stray>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // held before it is looked at: what is looked at is what is held
        let Some(handle) = i32::try_from(pid).ok().and_then(Pid::from_raw).and_then(hold) else {
            continue;
        };
        if let Some((worker, generation)) = worker_of(Path::new("/proc").join(&name).as_path(), job) {
            found.push(Stray { worker, generation, pid, handle });
        }
    }
    Ok(found)
}

fn hold(pid: Pid) -> Option<OwnedFd> {
    // it may have ended by now
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Name and generation, if the process is a worker of this job and of this user.
fn worker_of(process: &Path, job: &JobId) -> Option<(String, u64)> {
    if std::fs::metadata(process).ok()?.uid() != getuid().as_raw() {
        return None;
    }
    let line = std::fs::read(process.join("cmdline")).ok()?;
    let arguments: Vec<&str> = line.split(|byte| *byte == 0).map(|a| std::str::from_utf8(a).unwrap_or("")).collect();
    let after = |name: &str| arguments.iter().position(|a| *a == name).and_then(|at| arguments.get(at + 1).copied());
    if after("--job") != Some(job.0.as_str()) {
        return None;
    }
    Some((after("--name")?.to_string(), after("--generation")?.parse().ok()?))
}
