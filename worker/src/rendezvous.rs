//! Where the workers of a generation meet, and how a communicator comes of it. Every worker opens a store before it knows
//! its rank; the coordinator tells all of them the one of rank 0, so nothing needs a port that is known in advance.

use accord_collective::{Alone, Collective, CollectiveError, Options, Store, gloo, nccl};
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// To open or reach a store.
const MEET_WITHIN: Duration = Duration::from_secs(30);
/// Of one operation. Another rank may fetch a dataset, or rank 0 partition a large catalog, while the others wait for it; a
/// worker that died or hangs is noticed by the coordinator long before.
const OPERATION_WITHIN: Duration = Duration::from_secs(3600);

/// This worker's own store.
pub struct MeetingPoint {
    store: Store,
    host: IpAddr,
    port: u16,
}

impl MeetingPoint {
    /// Listens at `own`, or at the address by which this machine reaches the coordinator: other workers reach it by that.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn open(own: Option<IpAddr>, coordinator: &str) -> Result<MeetingPoint, CollectiveError> {
        let host = own.or_else(|| address_towards(coordinator)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (store, port) = Store::serve(&host.to_string(), MEET_WITHIN)?;
        Ok(MeetingPoint { store, host, port })
    }

    /// `address:port`, as other workers reach it.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The communicator of a generation. `store`: the address of rank 0's meeting point, which must stay until all have
    /// come; `cuda`: the device, where tensors live on one.
    ///
    /// # Errors
    /// When the ranks do not come together within the deadline, or NCCL is not there.
    pub fn join(
        &self,
        rank: usize,
        size: usize,
        generation: u64,
        store: &str,
        cuda: Option<usize>,
    ) -> Result<Box<dyn Collective>, CollectiveError> {
        if size == 1 {
            return Ok(Box::new(Alone));
        }
        let options = Options { rank, size, host: self.host.to_string(), generation, deadline: OPERATION_WITHIN };
        let connected;
        let store = if rank == 0 {
            &self.store
        } else {
            let (host, port) = store.rsplit_once(':').unwrap_or((store, ""));
            connected = Store::connect(host, port.parse().unwrap_or(0), MEET_WITHIN)?;
            &connected
        };
        match cuda {
            None => gloo::connect(store, &options),
            Some(device) => nccl::connect(store, &options, device),
        }
    }
}

/// The local address of a connection to `url`; nothing is sent.
fn address_towards(url: &str) -> Option<IpAddr> {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    let target = place.split('/').next()?.to_socket_addrs().ok()?.next()?;
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_way_to_the_coordinator() {
        assert_eq!(address_towards("http://127.0.0.1:4000"), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(address_towards("http://[::1]:4000/"), Some("::1".parse().unwrap()));
        assert_eq!(address_towards("nowhere"), None);
    }
}
