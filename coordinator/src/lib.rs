//! The control plane and its command line. Never links torch.
//!
//! # Layout
//! * [`cli`]: one file per subcommand.
//! * [`config`]: the settings of `serve`.
//! * [`server`]: gRPC handlers. [`control_loop`]: the single owner of live jobs, behind its `Handle`.
//! * [`job`], [`membership`], [`placement`]: pure decisions.
//! * [`store`], [`election`], [`launcher`]: where job records live, which coordinator leads, how workers start.
//! * [`metrics`]: what a monitoring system scrapes.
//! * [`run_dir`], [`log_store`]: what a run leaves on disk.
//! * [`plane`]: all of it together, for `run`, `serve` and tests.

pub mod cli;
pub mod config;
pub mod control_loop;
pub mod election;
pub mod job;
pub mod launcher;
pub mod log_store;
pub mod membership;
pub mod metrics;
pub mod placement;
pub mod plane;
pub mod run_dir;
pub mod server;
pub mod store;
