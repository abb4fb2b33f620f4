//! Log lines on their way to the coordinator. A full or closed channel never stops the worker: lines then go to stderr,
//! which the launcher keeps.

use std::io::{self, Write};
use tokio::sync::mpsc;
use tracing_subscriber::fmt::MakeWriter;

/// Lines waiting to be shipped.
const BACKLOG: usize = 1024;
/// Longer lines are cut: a batch of them must fit a message.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// Makes a writer for each log event.
#[derive(Clone, Debug)]
pub struct LogSender {
    lines: mpsc::Sender<String>,
}

/// The log's two ends.
pub fn channel() -> (LogSender, mpsc::Receiver<String>) {
    let (lines, receiver) = mpsc::channel(BACKLOG);
    (LogSender { lines }, receiver)
}

impl<'a> MakeWriter<'a> for LogSender {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event { lines: &self.lines, text: Vec::new() }
    }
}

/// One log event; sent when it is dropped.
#[derive(Debug)]
pub struct Event<'a> {
    lines: &'a mpsc::Sender<String>,
    text: Vec<u8>,
}

impl Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_LINE_BYTES.saturating_sub(self.text.len());
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        let line = String::from_utf8_lossy(&self.text).trim_end().to_string();
        if line.is_empty() {
            return;
        }
        if let Err(refused) = self.lines.try_send(line) {
            // the last place left; a closed stderr is nothing to stop for
            let _ = writeln!(io::stderr(), "{}", refused.into_inner());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_becomes_one_bounded_line() {
        let (log, mut lines) = channel();
        {
            let mut event = log.make_writer();
            event.write_all(b"loss is ").unwrap();
            event.write_all(b"falling\n").unwrap();
        }
        assert_eq!(lines.try_recv().unwrap(), "loss is falling");
        log.make_writer().write_all(&vec![b'x'; 3 * MAX_LINE_BYTES]).unwrap();
        assert_eq!(lines.try_recv().unwrap().len(), MAX_LINE_BYTES);
    }
}
