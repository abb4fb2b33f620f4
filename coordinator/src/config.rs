//! The settings of `coordinator serve`: defaults < file < environment < flags, checked before use.

use crate::cli::Usage;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a coordinator listens unless told otherwise, and where clients look for one.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7411";

/// What `serve.toml` may say; every key may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Address of the gRPC server. Loopback only: there is no TLS, and every local user who reaches it is trusted.
    pub listen: SocketAddr,
    /// Folder of the store and of the jobs' run directories.
    pub state_dir: PathBuf,
    /// Absent: the `worker` beside the coordinator's own executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_binary: Option<PathBuf>,
    /// Jobs that train at the same time; the rest wait. Each uses every core unless its job file says otherwise.
    pub max_running_jobs: usize,
}

impl Default for ServeConfig {
    fn default() -> ServeConfig {
        ServeConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 7411)),
            state_dir: "accord-state".into(),
            worker_binary: None,
            max_running_jobs: 1,
        }
    }
}

/// What the environment and the flags say (clap reads both; flags win).
#[derive(Clone, Debug, Default)]
pub struct ServeOverrides {
    pub listen: Option<SocketAddr>,
    pub state_dir: Option<PathBuf>,
    pub worker_binary: Option<PathBuf>,
    pub max_running_jobs: Option<usize>,
}

impl ServeConfig {
    /// # Errors
    /// [`Usage`] when the file cannot be read or a setting cannot be used.
    pub fn load(file: Option<&Path>, over: ServeOverrides) -> Result<ServeConfig, Usage> {
        let mut config = match file {
            None => ServeConfig::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Usage(format!("{}: {e}", path.display())))?;
                toml::from_str(&text).map_err(|e| Usage(format!("{}: {}", path.display(), e.to_string().trim_end())))?
            }
        };
        config.listen = over.listen.unwrap_or(config.listen);
        config.state_dir = over.state_dir.unwrap_or(config.state_dir);
        config.worker_binary = over.worker_binary.or(config.worker_binary);
        config.max_running_jobs = over.max_running_jobs.unwrap_or(config.max_running_jobs);
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Usage> {
        if !self.listen.ip().is_loopback() {
            return Err(Usage(format!(
                "listen: {} can be reached from other machines, and this version has no TLS\n  hint: use a loopback \
                 address such as {DEFAULT_LISTEN}, and a tunnel (ssh -L) from elsewhere",
                self.listen
            )));
        }
        if self.max_running_jobs == 0 {
            return Err(Usage("max_running_jobs: 0 would never start a job\n  hint: use 1 or more".into()));
        }
        Ok(())
    }

    /// The settings as a file that [`ServeConfig::load`] reads.
    ///
    /// # Errors
    /// When a path is not Unicode.
    pub fn dump(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serve.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let (_dir, path) = file("max_running_jobs = 3\nstate_dir = \"here\"\n");
        let over = ServeOverrides { max_running_jobs: Some(5), ..ServeOverrides::default() };
        let config = ServeConfig::load(Some(&path), over).unwrap();
        assert_eq!(config.max_running_jobs, 5);
        assert_eq!(config.state_dir, PathBuf::from("here"));
        assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
    }

    #[test]
    fn what_is_dumped_loads_to_the_same() {
        let config = ServeConfig { worker_binary: Some("bin/worker".into()), ..ServeConfig::default() };
        let (_dir, path) = file(&config.dump().unwrap());
        assert_eq!(ServeConfig::load(Some(&path), ServeOverrides::default()).unwrap(), config);
    }

    #[test]
    fn an_open_address_an_unknown_key_and_no_room_are_refused() {
        for (text, word) in [
            ("listen = \"0.0.0.0:7411\"", "TLS"),
            ("lisen = \"127.0.0.1:1\"", "lisen"),
            ("max_running_jobs = 0", "max_running_jobs"),
        ] {
            let (_dir, path) = file(text);
            let error = ServeConfig::load(Some(&path), ServeOverrides::default()).unwrap_err();
            assert!(error.0.contains(word), "{error}");
        }
    }
}
