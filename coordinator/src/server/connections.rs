//! Connections, bounded: how many there are, and how long one may stay that shows nothing for itself. Random bytes, a
//! handshake that never ends and a client that is refused again and again all end in the same deadline.

use futures::Stream;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// At one time; more wait to be accepted. A job has at most 1024 workers.
const MAX_CONNECTIONS: usize = 2048;
/// From the connection until a request was let in.
const ADMIT_WITHIN: Duration = Duration::from_secs(10);
/// After a failed accept, such as for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A listener whose connections are bounded.
pub(crate) struct Listener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    admit_within: Duration,
}

impl Listener {
    pub(crate) fn new(listener: TcpListener) -> Listener {
        Listener { listener, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), admit_within: ADMIT_WITHIN }
    }

    async fn next(&self) -> Option<Connection> {
        // a semaphore that nobody closes
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => return Some(Connection::new(stream, address, place, self.admit_within)),
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    /// For tonic. Never ends, and no error of a connection ends it.
    pub(super) fn into_stream(self) -> impl Stream<Item = io::Result<Connection>> {
        futures::stream::unfold(self, |listener| async move { listener.next().await.map(|c| (Ok(c), listener)) })
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        match self.next().await {
            Some(connection) => {
                let peer = connection.peer.clone();
                (connection, peer)
            }
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        self.listener.local_addr().map(Peer::new)
    }
}

/// The other end of a connection, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// It made a request, whatever became of it.
    asked: AtomicBool,
    /// A request of it was let in.
    admitted: AtomicBool,
}

impl Peer {
    fn new(address: SocketAddr) -> Peer {
        Peer { address, seen: Arc::default() }
    }

    pub(crate) fn asked(&self) {
        self.seen.asked.store(true, Ordering::Relaxed);
    }

    /// It may stay.
    pub(crate) fn admit(&self) {
        self.seen.admitted.store(true, Ordering::Relaxed);
    }

    fn is_admitted(&self) -> bool {
        self.seen.admitted.load(Ordering::Relaxed)
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Peer {
        stream.remote_addr().clone()
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    peer: Peer,
    /// None once a request was let in.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whether it sent anything: what only looks whether the port is open does not.
    heard: bool,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit, admit_within: Duration) -> Connection {
        // small messages go at once; a socket that does not take the option works all the same
        let _ = stream.set_nodelay(true);
        let deadline = Some(Box::pin(tokio::time::sleep(admit_within)));
        Connection { stream, peer: Peer::new(address), deadline, heard: false, _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.peer.is_admitted() {
            self.deadline = None;
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request was let in")));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.heard |= buf.filled().len() > before;
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.heard && !self.peer.seen.asked.load(Ordering::Relaxed) {
            tracing::info!(peer = %self.peer.address, "a connection ended without a request");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn pair(places: usize) -> (Listener, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let admit_within = Duration::from_millis(50);
        (Listener { listener, places: Arc::new(Semaphore::new(places)), admit_within }, client)
    }

    #[tokio::test]
    async fn one_that_shows_nothing_for_itself_is_closed_and_one_that_was_let_in_stays() {
        let (listener, _client) = pair(1).await;
        let mut connection = listener.next().await.unwrap();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(connection);

        let mut client = TcpStream::connect(listener.listener.local_addr().unwrap()).await.unwrap();
        let mut connection = listener.next().await.unwrap();
        connection.peer.admit();
        let late = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            tokio::io::AsyncWriteExt::write_all(&mut client, b"x").await.unwrap();
        };
        let (read, ()) = tokio::join!(connection.read_u8(), late);
        assert_eq!(read.unwrap(), b'x');
    }

    #[tokio::test]
    async fn beyond_the_bound_a_connection_waits_for_another_to_end() {
        let (listener, _first) = pair(1).await;
        let connection = listener.next().await.unwrap();
        let _second = TcpStream::connect(listener.listener.local_addr().unwrap()).await.unwrap();
        let mut next = std::pin::pin!(listener.next());
        assert!(futures::poll!(&mut next).is_pending());
        drop(connection);
        tokio::time::timeout(Duration::from_secs(10), next).await.expect("a place is free").unwrap();
    }
}
