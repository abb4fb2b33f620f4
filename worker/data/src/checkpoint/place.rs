//! Where the files of checkpoints lie. A place knows names and bytes, and neither steps nor manifests.

use std::fmt::Debug;
use std::io;
use std::ops::Range;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Missing,
    /// A plain file of so many bytes.
    File(u64),
    /// A link, a folder, a device.
    NotAFile,
}

/// A tree of files two levels deep: `folder/file`, with `/` on every machine. Calls wait for the answer; those that go
/// over a network end by a deadline of the place's own.
///
/// # Errors
/// Every call fails with what the disk or the network said. [`io::ErrorKind::InvalidData`] says that this one file is
/// spoiled; any other kind, that the place could not be asked.
pub trait Place: Debug + Send + Sync {
    /// `name` in full, for people. The place itself where `name` is empty.
    fn address(&self, name: &str) -> String;

    /// How many bytes [`put_new`](Self::put_new) can create without ever replacing a file. A larger file may replace one
    /// that another writer finishes at the same moment, so its name has to say what is in it.
    fn create_limit(&self) -> u64;

    /// Makes a file of `bytes`, on the disk or with the server when this returns: all of it or nothing. False where the
    /// name is taken: what is there is untouched.
    fn put_new(&self, name: &str, bytes: &[u8]) -> io::Result<bool>;

    fn look(&self, name: &str) -> io::Result<Found>;

    /// Those bytes of a file, all of them.
    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// Names of the files and folders in `folder`, in no order; none where there is no such folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Removes a file; one that is not there is fine.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes a folder and all in it.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;

    /// Takes `evidence`, a file of `folder`, to the new folder `aside`, so that `folder` has it no more. False where
    /// `aside` is taken. A place that can give a folder another name takes the whole of it.
    fn set_aside(&self, folder: &str, evidence: &str, aside: &str) -> io::Result<bool>;
}
