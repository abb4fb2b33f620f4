//! Static split of work over a fixed team of threads.

use std::ops::Range;

/// The worker's compute threads.
pub(crate) struct Team {
    pool: rayon::ThreadPool,
    pub(crate) size: usize,
}

impl Team {
    pub(crate) fn new(size: usize) -> Result<Team, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(size).thread_name(|t| format!("kernel-{t}")).build()?;
        Ok(Team { pool, size })
    }

    /// Runs `work(thread)` once on each thread and waits for all.
    pub(crate) fn run(&self, work: impl Fn(usize) + Sync) {
        if self.size == 1 {
            return work(0);
        }
        self.pool.broadcast(|context| work(context.index()));
    }

    /// This thread's part of `0..n`, cut at multiples of `grain`.
    pub(crate) fn part(&self, n: usize, grain: usize, thread: usize) -> Range<usize> {
        cut(n, grain, thread, self.size)
    }

    /// Runs `work(range, part of out)` over row ranges of `out` [n, width], cut at multiples of `grain` rows.
    pub(crate) fn rows<T: Send>(
        &self,
        out: &mut [T],
        width: usize,
        grain: usize,
        work: impl Fn(Range<usize>, &mut [T]) + Sync,
    ) {
        let n = out.len() / width;
        let shared = Shared::new(out);
        self.run(|thread| {
            let part = self.part(n, grain, thread);
            // SAFETY: parts of different threads are disjoint.
            let out = unsafe { shared.slice(part.start * width..part.end * width) };
            work(part, out);
        });
    }

    /// Adds `parts[1..]` into `parts[0]`, in the order of the parts.
    pub(crate) fn sum_into_first(&self, parts: &mut [Vec<f32>]) {
        let Some((first, rest)) = parts.split_first_mut() else { return };
        self.rows(first, 1, 64, |range, out| {
            for part in rest.iter() {
                out.iter_mut().zip(&part[range.clone()]).for_each(|(o, x)| *o += x);
            }
        });
    }
}

/// Part `part` of `parts` of `0..n`, cut at multiples of `grain`.
pub(crate) fn cut(n: usize, grain: usize, part: usize, parts: usize) -> Range<usize> {
    let blocks = n.div_ceil(grain);
    (blocks * part / parts * grain).min(n)..(blocks * (part + 1) / parts * grain).min(n)
}

/// A mutable slice that several threads write to, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T, usize);

// SAFETY: only `slice` reaches the data, and its callers keep the parts disjoint.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Shared(slice.as_mut_ptr(), slice.len())
    }

    /// # Safety
    /// No two threads hold overlapping ranges at the same time, and the slice given to `new` outlives the result.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    #[inline(always)]
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.1, "part {range:?} of {}", self.1);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}
