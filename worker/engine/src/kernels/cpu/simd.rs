//! The few vector operations the kernels need, for three instruction sets, and the choice between them at run time.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Instruction set chosen at run time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Portable,
    Avx2,
    Avx512,
}

impl Level {
    /// Best level of this machine.
    pub fn detect() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                return Level::Avx512;
            }
            if avx2 {
                return Level::Avx2;
            }
        }
        Level::Portable
    }

    /// Every level this machine can run, for the behaviour suite.
    pub fn all() -> Vec<Level> {
        let best = Level::detect() as usize;
        [Level::Portable, Level::Avx2, Level::Avx512].into_iter().take(best + 1).collect()
    }

    /// Runs `work` compiled for this instruction set.
    #[inline]
    pub(crate) fn run<W: Vectorised>(self, work: W) -> W::Output {
        match self {
            // SAFETY: `detect` and `all` return a level only where the processor has its instructions.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { run_avx512(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { run_avx2(work) },
            // SAFETY: plain arrays need no instruction set.
            _ => unsafe { work.run::<Portable>() },
        }
    }
}

/// A kernel written once over [`Simd`]: its arguments are the struct's fields.
pub(crate) trait Vectorised {
    type Output;
    /// Must be `#[inline(always)]`, so that it is compiled inside a function that enables the instruction set.
    ///
    /// # Safety
    /// The processor has `S`'s instructions.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn run_avx512<W: Vectorised>(work: W) -> W::Output {
    unsafe { work.run::<Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<W: Vectorised>(work: W) -> W::Output {
    unsafe { work.run::<Avx2>() }
}

/// A vector of `LANES` f32. Every function is `inline(always)` and must be reached only from a function that enables
/// the instruction set (`#[target_feature]`), which is why all of them are unsafe.
///
/// # Safety
/// The caller runs on a machine that has the instruction set; pointers are valid for `LANES` floats.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Simd: Copy + 'static {
    type V: Copy;
    /// `LANES` / 2 f64
    type Wide: Copy;
    const LANES: usize;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// a * b + c
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn round(a: Self::V) -> Self::V;
    /// p * 2^n for integral n within +-126
    unsafe fn scale(p: Self::V, n: Self::V) -> Self::V;
    unsafe fn sum(a: Self::V) -> f32;
    /// true when some lane of a is greater than the same lane of b
    unsafe fn any_greater(a: Self::V, b: Self::V) -> bool;
    unsafe fn splat_wide(x: f64) -> Self::Wide;
    unsafe fn load_wide(p: *const f64) -> Self::Wide;
    unsafe fn store_wide(p: *mut f64, v: Self::Wide);
    /// a * b + c for a * b that an f64 holds: rounded once, on every instruction set
    unsafe fn fma_wide(a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide;
}

/// 2^z for |z| <= 126, relative error <= 2e-7: degree 5 minimax polynomial on [-1/2, 1/2].
#[inline(always)]
pub(crate) unsafe fn exp2<S: Simd>(z: S::V) -> S::V {
    unsafe {
        let n = S::round(z);
        let r = S::sub(z, n);
        let mut p = S::splat(1.327_647_2e-3);
        for c in [9.675_541e-3_f32, 5.550_713e-2, 2.402_212e-1, 6.931_469_4e-1, 1.0] {
            p = S::fma(p, r, S::splat(c));
        }
        S::scale(p, n)
    }
}

/// Dot product of two rows of `d` floats, a multiple of the lanes.
#[inline(always)]
pub(crate) unsafe fn dot<S: Simd>(d: usize, a: *const f32, b: *const f32) -> f32 {
    unsafe {
        let mut acc = S::splat(0.0);
        let mut i = 0;
        while i < d {
            acc = S::fma(S::load(a.add(i)), S::load(b.add(i)), acc);
            i += S::LANES;
        }
        S::sum(acc)
    }
}

/// y += a x, rows of `d` floats, a multiple of the lanes.
#[inline(always)]
pub(crate) unsafe fn add_scaled<S: Simd>(d: usize, y: *mut f32, a: f32, x: *const f32) {
    unsafe {
        for i in (0..d).step_by(S::LANES) {
            S::store(y.add(i), S::fma(S::splat(a), S::load(x.add(i)), S::load(y.add(i))));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Simd for Avx512 {
    type V = __m512;
    type Wide = __m512d;
    const LANES: usize = 16;
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<0>(a) }
    }
    #[inline(always)]
    unsafe fn scale(p: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(p, n) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    unsafe fn any_greater(a: __m512, b: __m512) -> bool {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) != 0 }
    }
    #[inline(always)]
    unsafe fn splat_wide(x: f64) -> __m512d {
        unsafe { _mm512_set1_pd(x) }
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const f64) -> __m512d {
        unsafe { _mm512_loadu_pd(p) }
    }
    #[inline(always)]
    unsafe fn store_wide(p: *mut f64, v: __m512d) {
        unsafe { _mm512_storeu_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn fma_wide(a: __m512d, b: __m512d, c: __m512d) -> __m512d {
        unsafe { _mm512_fmadd_pd(a, b, c) }
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    type V = __m256;
    type Wide = __m256d;
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m256) -> __m256 {
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(a: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<8>(a) }
    }
    #[inline(always)]
    unsafe fn scale(p: __m256, n: __m256) -> __m256 {
        unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
            _mm256_mul_ps(p, _mm256_castsi256_ps(exponent))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: __m256) -> f32 {
        unsafe {
            let s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
            _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps::<1>(s, s)))
        }
    }
    #[inline(always)]
    unsafe fn any_greater(a: __m256, b: __m256) -> bool {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) != 0 }
    }
    #[inline(always)]
    unsafe fn splat_wide(x: f64) -> __m256d {
        unsafe { _mm256_set1_pd(x) }
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const f64) -> __m256d {
        unsafe { _mm256_loadu_pd(p) }
    }
    #[inline(always)]
    unsafe fn store_wide(p: *mut f64, v: __m256d) {
        unsafe { _mm256_storeu_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn fma_wide(a: __m256d, b: __m256d, c: __m256d) -> __m256d {
        unsafe { _mm256_fmadd_pd(a, b, c) }
    }
}

/// Arrays of eight floats: the compiler vectorises them for whatever the target has.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn zip(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    let mut o = [0.0; 8];
    for i in 0..8 {
        o[i] = f(a[i], b[i]);
    }
    o
}

impl Simd for Portable {
    type V = [f32; 8];
    type Wide = [f64; 4];
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 8] {
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 8]) {
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn sqrt(a: [f32; 8]) -> [f32; 8] {
        zip(a, a, |x, _| x.sqrt())
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        zip(zip(a, b, |x, y| x * y), c, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn round(a: [f32; 8]) -> [f32; 8] {
        const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
        zip(a, a, |x, _| (x + MAGIC) - MAGIC)
    }
    #[inline(always)]
    unsafe fn scale(p: [f32; 8], n: [f32; 8]) -> [f32; 8] {
        zip(p, n, |p, n| p * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn sum(a: [f32; 8]) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    unsafe fn any_greater(a: [f32; 8], b: [f32; 8]) -> bool {
        let mut any = false;
        for i in 0..8 {
            any |= a[i] > b[i];
        }
        any
    }
    #[inline(always)]
    unsafe fn splat_wide(x: f64) -> [f64; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const f64) -> [f64; 4] {
        unsafe { p.cast::<[f64; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_wide(p: *mut f64, v: [f64; 4]) {
        unsafe { p.cast::<[f64; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma_wide(a: [f64; 4], b: [f64; 4], c: [f64; 4]) -> [f64; 4] {
        let mut o = c;
        for i in 0..4 {
            o[i] += a[i] * b[i];
        }
        o
    }
}
