//! One training step: losses and gradients of a batch, then the Adam update. The only file that orders what the workers
//! exchange, once there are several.

use crate::kernels::{AdamStep, Kernels};
use crate::model::{Clock, StepInput, Tally, Terms, irllrec, lightgcn, rlmrec_con};
use crate::report::Losses;
use crate::weights::{Tower, Weights};

/// Parameters and optimiser state.
pub struct ModelState {
    pub weights: Weights,
    /// `int_mlp_m`, IRLLRec only; never trained.
    pub teacher: Option<Tower>,
    /// First and second moments of Adam, in the shape of the weights.
    pub moments: [Weights; 2],
    /// Updates done.
    pub step: u64,
}

impl ModelState {
    pub fn new(weights: Weights, teacher: Option<Tower>) -> ModelState {
        let moments = [weights.zeros_like(), weights.zeros_like()];
        ModelState { weights, teacher, moments, step: 0 }
    }

    /// Moves everything to `device`.
    pub fn to_device(&mut self, device: tch::Device) {
        let [first, second] = &mut self.moments;
        let weights = [&mut self.weights, first, second].into_iter().flat_map(Weights::tensors_mut);
        let teacher = self.teacher.iter_mut().flat_map(Tower::tensors_mut);
        weights.chain(teacher).for_each(|x| *x = x.to(device));
    }

    /// reg_weight * sum of all squares, the frozen teacher's included (spec 5.2, quirk Q6).
    fn regulariser(&self, kernels: &dyn Kernels, reg_weight: f64) -> f64 {
        let trained = self.weights.named().into_iter().map(|(_, w)| kernels.sum_of_squares(w));
        let teacher = self.teacher.iter().flat_map(Tower::tensors).map(|w| kernels.sum_of_squares(w));
        reg_weight * trained.chain(teacher).sum::<f64>()
    }

    /// Loss terms of the batch and their gradients, the regulariser's left out: its `2 reg w` is added by the update.
    /// The teacher takes its EMA step (once a call, as in the official code).
    pub fn losses(&mut self, input: &StepInput, clock: &mut Clock) -> (Losses, Weights) {
        let reg_weight = input.config.loss.reg_weight;
        let reg = clock.time("regulariser", || self.regulariser(input.kernels, reg_weight));
        let weights = &self.weights;
        let graph = lightgcn::forward(input, weights, clock);
        let mut tally = Tally {
            terms: Terms::default(),
            x: graph.x.zeros_like(),
            weights: weights.zeros_like(),
            clock: std::mem::take(clock),
        };
        lightgcn::add_terms(input, &graph, &mut tally);
        let mut extra = Vec::new();
        if let Some(texts) = input.texts {
            rlmrec_con::add_terms(input, texts, weights, &graph, &mut tally);
            extra = irllrec::add_terms(input, texts, weights, self.teacher.as_mut(), &graph, &mut tally);
        }
        lightgcn::backward(input, &mut tally, &extra);
        *clock = tally.clock;
        let Terms { bpr, kd, kd_int, translation, itm } = tally.terms;
        let total = bpr + reg + kd + kd_int + translation + itm;
        (Losses { total, bpr, reg, kd, kd_int, translation, itm }, tally.weights)
    }

    /// Dense Adam on every row, as the official code.
    pub fn update(&mut self, kernels: &dyn Kernels, grads: &Weights, lr: f64, reg_weight: f64) {
        self.step += 1;
        let step = AdamStep { step: self.step, lr, reg: reg_weight };
        let [first, second] = &mut self.moments;
        let moments = first.tensors_mut().into_iter().zip(second.tensors_mut());
        for ((w, (_, grad)), (m, v)) in self.weights.tensors_mut().into_iter().zip(grads.named()).zip(moments) {
            kernels.adam(w, grad, [m, v], step);
        }
    }
}
