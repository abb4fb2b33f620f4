//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a pure function from
//! (key, counter) to 128 random bits. No draw depends on another, so none depends on how many workers there are or
//! on where a run was interrupted. Not for secrets.

/// What a draw is for: each purpose has its own generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Order of the training pairs, by epoch.
    Permutation,
    /// One negative item a training pair, by epoch.
    Negative,
    /// Noise on embeddings, by step, node and column.
    Noise,
    /// Initial weights.
    Init,
    /// Which interactions are held out.
    Split,
    /// Orders in which the partitioner visits nodes.
    Partition,
    /// Users, items and interactions of a made-up catalog.
    Catalog,
    /// Users that a sampled contrast is held against, by step.
    Contrast,
}

/// The generator of one seed and one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

const MULTIPLIER_0: u32 = 0xD251_1F53;
const MULTIPLIER_1: u32 = 0xCD9E_8D57;
/// The key's Weyl sequence: golden ratio and sqrt(3) - 1.
const WEYL_0: u32 = 0x9E37_79B9;
const WEYL_1: u32 = 0xBB67_AE85;

impl Philox {
    /// The key mixes seed and stream, so neighbouring seeds and streams share nothing.
    pub fn new(seed: u64, stream: Stream) -> Philox {
        // part of what a seed means: a number is never changed or given again
        let stream_number = match stream {
            Stream::Permutation => 1,
            Stream::Negative => 2,
            Stream::Noise => 3,
            Stream::Init => 5,
            Stream::Split => 6,
            Stream::Partition => 7,
            Stream::Catalog => 8,
            Stream::Contrast => 9,
        };
        let key = mix(seed ^ mix(stream_number));
        Philox { key: [key as u32, (key >> 32) as u32] }
    }

    /// Four random words at counter `(a, b)`.
    #[inline]
    pub fn block(&self, a: u64, b: u64) -> [u32; 4] {
        let mut c = [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32];
        let [mut k0, mut k1] = self.key;
        for _ in 0..10 {
            let p0 = u64::from(MULTIPLIER_0) * u64::from(c[0]);
            let p1 = u64::from(MULTIPLIER_1) * u64::from(c[2]);
            c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
            k0 = k0.wrapping_add(WEYL_0);
            k1 = k1.wrapping_add(WEYL_1);
        }
        c
    }

    /// The same 128 bits as two words.
    #[inline]
    pub fn block_wide(&self, a: u64, b: u64) -> [u64; 2] {
        let c = self.block(a, b);
        [u64::from(c[0]) | u64::from(c[1]) << 32, u64::from(c[2]) | u64::from(c[3]) << 32]
    }

    /// The numbers below `len` in an order keyed by `a`: Fisher-Yates from the end; exchange `i` uses half of block
    /// `(a, i / 2)`.
    pub(crate) fn permutation(&self, a: u64, len: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..len as u32).collect();
        let mut words = [0; 2];
        for i in (1..len).rev() {
            if i % 2 == 1 || i == len - 1 {
                words = self.block_wide(a, i as u64 / 2);
            }
            order.swap(i, below_wide(words[i % 2], i as u64 + 1) as usize);
        }
        order
    }
}

/// SplitMix64's finaliser: a bijection of the 64-bit words.
pub(crate) fn mix(word: u64) -> u64 {
    let z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number below `n` from one word (0 for `n` = 0); no value is likelier than another by more than `n / 2^32`.
#[inline]
pub fn below(word: u32, n: u32) -> u32 {
    ((u64::from(word) * u64::from(n)) >> 32) as u32
}

/// As [`below`] with a bias under `n / 2^64`.
#[inline]
pub fn below_wide(word: u64, n: u64) -> u64 {
    ((u128::from(word) * u128::from(n)) >> 64) as u64
}

/// Uniform in [0, 1), a multiple of 2^-24.
#[inline]
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Uniform in [0, 1), a multiple of 2^-53.
#[inline]
pub fn unit_wide(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known-answer vectors published with Random123 (`kat_vectors`, philox4x32 10).
    #[test]
    fn published_known_answers() {
        let pack = |lo: u32, hi: u32| u64::from(lo) | u64::from(hi) << 32;
        let check = |counter: [u32; 4], key: [u32; 2], expected: [u32; 4]| {
            let got = Philox { key }.block(pack(counter[0], counter[1]), pack(counter[2], counter[3]));
            assert_eq!(got, expected);
        };
        check([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        check([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        check(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    #[test]
    fn seeds_and_streams_are_apart() {
        let streams = [
            Stream::Permutation,
            Stream::Negative,
            Stream::Noise,
            Stream::Init,
            Stream::Split,
            Stream::Partition,
            Stream::Catalog,
            Stream::Contrast,
        ];
        let mut seen: Vec<_> =
            streams.iter().flat_map(|&s| (0..50).map(move |seed| Philox::new(seed, s).block(0, 0))).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 50 * streams.len());
    }

    #[test]
    fn bounded_draws_stay_below_and_reach_both_ends() {
        assert_eq!((below(0, 7), below(u32::MAX, 7)), (0, 6));
        assert_eq!((below_wide(0, 7), below_wide(u64::MAX, 7)), (0, 6));
        assert_eq!((below(5, 0), below_wide(5, 0)), (0, 0));
        assert!(unit(u32::MAX) < 1.0 && unit_wide(u64::MAX) < 1.0);
    }

    #[test]
    fn bounded_draws_are_even() {
        let draws = Philox::new(1, Stream::Init);
        let mut counts = [0u32; 10];
        for b in 0..25_000 {
            draws.block(0, b).iter().for_each(|&w| counts[below(w, 10) as usize] += 1);
        }
        // 100 000 draws: standard deviation 95
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 500), "{counts:?}");
    }
}
