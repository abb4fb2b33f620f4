//! Where the ranks of a generation meet: c10d's TCP store.

use crate::{CollectiveError, ffi, form};
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

/// A key-value store that one process serves and all ranks connect to. It carries their addresses, no tensors.
/// It has no access control: bind it to an address that only workers reach.
pub struct Store {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// of the process that serves; connections are made anew for every communicator
    _server: Option<ffi::Store>,
}

impl Store {
    /// Serves on `bind_host` and a free port, which is returned, until the store is dropped. Give the ranks that
    /// connect later than that a new one; connected ranks do not need it any more.
    ///
    /// # Errors
    /// When the address is not one of this machine, or libtorch is not the version this was built for.
    pub fn serve(bind_host: &str, deadline: Duration) -> Result<(Store, u16), CollectiveError> {
        ffi::check_version()?;
        let bind =
            |e| CollectiveError::library(format!("cannot serve on {bind_host}: {e}; give an address of this machine"));
        // our own socket, because the store's listens on every address
        let listener = TcpListener::bind((bind_host, 0)).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let host = reachable(address.ip());
        let port = address.port();
        let own = host.clone();
        let server = form::within("store", deadline, move || ffi::Store::serve(listener, &own, port, deadline))?;
        Ok((Store { host, port, _server: Some(server) }, port))
    }

    /// Refers to the store that another process serves.
    ///
    /// # Errors
    /// When it cannot be reached within the deadline, or libtorch is not the version this was built for.
    pub fn connect(host: &str, port: u16, deadline: Duration) -> Result<Store, CollectiveError> {
        ffi::check_version()?;
        let owned = host.to_owned();
        let reached = form::within("store", deadline, move || ffi::Store::connect(&owned, port, deadline));
        reached.map_err(|e| CollectiveError::Peer {
            operation: form::OPERATION,
            reason: format!("no store answers at {host}:{port}: {e}; is the worker that serves it running?"),
        })?;
        Ok(Store { host: host.to_owned(), port, _server: None })
    }
}

/// Where a socket bound to `ip` is reached from this machine.
fn reachable(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(any) if any.is_unspecified() => "127.0.0.1".into(),
        IpAddr::V6(any) if any.is_unspecified() => "::1".into(),
        ip => ip.to_string(),
    }
}
