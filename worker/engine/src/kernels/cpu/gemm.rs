//! Small matrix product inside one thread: register tiles of `MR` rows by `NV` vectors, nothing packed.

use super::simd::Simd;

/// Read-only matrix: element (i, j) at `pointer + i * row + j`.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) pointer: *const f32,
    pub(crate) row: usize,
}

impl View {
    /// Row-major [_, columns].
    pub(crate) fn rows(x: &[f32], columns: usize) -> View {
        View { pointer: x.as_ptr(), row: columns }
    }
}

/// c [m, n] (row length `ldc`) += a [m, k] b [k, n]; b is row-major with row length `ldb`, n a multiple of 16.
///
/// # Safety
/// The pointers cover those shapes; called from a function with `S`'s instruction set enabled.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn add_product<S: Simd>(
    m: usize,
    k: usize,
    n: usize,
    a: View,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
) {
    let wide = 2 * S::LANES;
    // 16 registers hold 6 x 2 accumulators of 8 lanes, 32 registers 12 x 2 of 16
    let group = if S::LANES == 16 { 12 } else { 6 };
    unsafe {
        for i in (0..m).step_by(group) {
            let (a, c) = (View { pointer: a.pointer.add(i * a.row), ..a }, c.add(i * ldc));
            let full = i + group <= m;
            let mut j = 0;
            while j + wide <= n {
                match (full, S::LANES) {
                    (true, 16) => tile::<S, 12, 2>(k, a, b.add(j), ldb, c.add(j), ldc),
                    (true, _) => tile::<S, 6, 2>(k, a, b.add(j), ldb, c.add(j), ldc),
                    _ => rest::<S, 2>(m - i, k, a, b.add(j), ldb, c.add(j), ldc),
                }
                j += wide;
            }
            while j < n {
                match (full, S::LANES) {
                    (true, 16) => tile::<S, 12, 1>(k, a, b.add(j), ldb, c.add(j), ldc),
                    (true, _) => tile::<S, 6, 1>(k, a, b.add(j), ldb, c.add(j), ldc),
                    _ => rest::<S, 1>(m - i, k, a, b.add(j), ldb, c.add(j), ldc),
                }
                j += S::LANES;
            }
        }
    }
}

/// Fewer rows than a full group.
#[inline(always)]
unsafe fn rest<S: Simd, const NV: usize>(
    m: usize,
    k: usize,
    a: View,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
) {
    unsafe {
        let mut i = 0;
        while i < m {
            let (a, c) = (View { pointer: a.pointer.add(i * a.row), ..a }, c.add(i * ldc));
            if i + 4 <= m {
                tile::<S, 4, NV>(k, a, b, ldb, c, ldc);
                i += 4;
            } else {
                tile::<S, 1, NV>(k, a, b, ldb, c, ldc);
                i += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
    k: usize,
    a: View,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
) {
    unsafe {
        let mut acc = [[S::splat(0.0); NV]; MR];
        for p in 0..k {
            let mut bv = [S::splat(0.0); NV];
            for v in 0..NV {
                bv[v] = S::load(b.add(p * ldb + v * S::LANES));
            }
            for r in 0..MR {
                let x = S::splat(*a.pointer.add(r * a.row + p));
                for v in 0..NV {
                    acc[r][v] = S::fma(x, bv[v], acc[r][v]);
                }
            }
        }
        for r in 0..MR {
            for v in 0..NV {
                let c = c.add(r * ldc + v * S::LANES);
                S::store(c, S::add(S::load(c), acc[r][v]));
            }
        }
    }
}
