//! Blocking calls to an asynchronous client: a thread of its own runs them, each with a deadline. May be used from any
//! thread, one that runs asynchronous work included.

use object_store::Error;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// What a server says can be a whole page.
const MESSAGE_BYTES: usize = 800;
/// On top of the deadline, for the thread to notice that it has passed.
const NOTICE: Duration = Duration::from_secs(5);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The way to the thread. It ends when this is dropped.
pub(crate) struct Calls {
    work: UnboundedSender<Work>,
    deadline: Duration,
    /// Who is asked, for messages.
    server: String,
}

/// A call that is going on.
pub(crate) struct Reply<T> {
    answer: Receiver<io::Result<T>>,
    deadline: Duration,
}

impl Calls {
    /// # Errors
    /// When the machine has no thread or no event queue left.
    pub(crate) fn start(server: String, deadline: Duration) -> io::Result<Calls> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (work, mut inbox) = unbounded_channel::<Work>();
        std::thread::Builder::new().name("objects".into()).spawn(move || {
            runtime.block_on(async {
                while let Some(work) = inbox.recv().await {
                    tokio::spawn(work);
                }
            });
            // a name that is being looked up would be waited for
            runtime.shutdown_background();
        })?;
        Ok(Calls { work, deadline, server })
    }

    /// Starts a call.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        call: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Reply<T> {
        let (sender, answer) = sync_channel(1);
        let (deadline, server) = (self.deadline, self.server.clone());
        let work = Box::pin(async move {
            let result = match timeout(deadline, call).await {
                Ok(result) => result.map_err(failure),
                Err(_) => Err(late(&server, deadline)),
            };
            // nobody waits for the rest of what has failed
            let _ = sender.send(result);
        });
        // where this fails, `answer` says so
        let _ = self.work.send(work);
        Reply { answer, deadline }
    }

    pub(crate) fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        self.begin(call).wait()
    }
}

impl<T> Reply<T> {
    pub(crate) fn wait(self) -> io::Result<T> {
        self.answer
            .recv_timeout(self.deadline + NOTICE)
            .unwrap_or_else(|_| Err(io::Error::other("the thread that asks the object store is gone")))
    }
}

fn late(server: &str, deadline: Duration) -> io::Error {
    let message = format!("no answer from {server} within {} s", deadline.as_secs_f64());
    io::Error::new(ErrorKind::TimedOut, message)
}

/// The client's own words have the address and the status, or why there was none.
fn failure(error: Error) -> io::Error {
    let mut message = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if message.len() > MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        message.push_str(" ...");
    }
    let kind = match error {
        Error::NotFound { .. } => ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ErrorKind::PermissionDenied,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, message)
}
