//! Gaussian noise by counter: a number depends on (seed, step, tower, node, column) and on nothing else, so it is the
//! same for every number of workers, threads and restarts.

use accord_data::random::{Philox, Stream};

/// Which embeddings the noise perturbs (spec/IRLLREC.md 5.5 draws them in this order).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tower {
    Text,
    Graph,
}

/// The noise of one tower in one step.
#[derive(Clone)]
pub struct Noise {
    generator: Philox,
    counter: u64,
}

impl Noise {
    pub fn new(seed: u64, step: u64, tower: Tower) -> Noise {
        Noise { generator: Philox::new(seed, Stream::Noise), counter: step << 1 | u64::from(tower == Tower::Graph) }
    }

    /// out [nodes, d] = 1 + e with e ~ N(0, 1): the factor of multiplicative noise. `nodes`: global ids.
    pub(crate) fn fill_factor(&self, nodes: &[u32], d: usize, out: &mut [f32]) {
        for (&node, row) in nodes.iter().zip(out.chunks_exact_mut(d)) {
            for (block, four) in row.chunks_mut(4).enumerate() {
                let words = self.generator.block(self.counter, u64::from(node) << 32 | block as u64);
                let (a, b) = (box_muller(words[0], words[1]), box_muller(words[2], words[3]));
                let normal = [1.0 + a.0, 1.0 + a.1, 1.0 + b.0, 1.0 + b.1];
                four.copy_from_slice(&normal[..four.len()]);
            }
        }
    }
}

/// Two independent N(0, 1) from two uniform words (Box and Muller 1958).
#[inline(always)]
fn box_muller(radius: u32, angle: u32) -> (f32, f32) {
    // (0, 1]: 24 bits, never 0, so the logarithm is finite
    let uniform = ((radius >> 8) as f32 + 1.0) * (1.0 / 16_777_216.0);
    let radius = (-2.0 * uniform.ln()).sqrt();
    let (sin, cos) = ((angle >> 8) as f32 * (std::f32::consts::TAU / 16_777_216.0)).sin_cos();
    (radius * cos, radius * sin)
}
