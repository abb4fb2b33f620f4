//! One training step: losses and gradients of a batch, then the Adam update. It alone says in which order the ranks
//! exchange what: halo rows layer by layer, the heads' rows, texts and factors inside the contrastive terms, halo rows of
//! the gradients, and at the end the dense gradients with the teacher. A gradient of a row is made by its owner, whole.

use crate::error::EngineError;
use crate::kernels::{AdamStep, Kernels};
use crate::loss::bpr::bpr;
use crate::model::irllrec::Intents;
use crate::model::rlmrec_con::Profiles;
use crate::model::{Clock, HeadRows, StepInput, Terms, lightgcn};
use crate::report::Losses;
use crate::weights::{Tower, Weights};
use crate::world::World;
use tch::{Kind, Tensor};

/// Parameters and optimiser state: embeddings of the own nodes, and whole copies of everything else.
pub struct ModelState {
    pub weights: Weights,
    /// `int_mlp_m`, IRLLRec only; never trained.
    pub teacher: Option<Tower>,
    /// First and second moments of Adam, in the shape of the weights.
    pub moments: [Weights; 2],
    /// Updates done.
    pub step: u64,
}

/// What one step's forward and backward give.
pub struct StepGrads {
    /// Parts of the losses by rank; their sum is the step's.
    pub losses: Vec<Losses>,
    pub weights: Weights,
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

    /// What every rank has a copy of: dense weights, their moments, the teacher.
    pub fn replicated(&self) -> Vec<&Tensor> {
        let dense = [&self.weights, &self.moments[0], &self.moments[1]].into_iter().flat_map(Weights::dense);
        dense.chain(self.teacher.iter().flat_map(Tower::tensors)).collect()
    }

    /// This rank's part of reg_weight * sum of all squares, the frozen teacher's included (spec 5.2, quirk Q6).
    fn regulariser(&self, world: &World, kernels: &dyn Kernels, reg_weight: f64) -> f64 {
        let mut sum = kernels.sum_of_squares(&self.weights.embeds);
        if world.rank() == 0 {
            let dense = self.weights.dense().into_iter().chain(self.teacher.iter().flat_map(Tower::tensors));
            sum += dense.map(|w| kernels.sum_of_squares(w)).sum::<f64>();
        }
        reg_weight * sum
    }

    /// Loss terms of the batch and their gradients, the regulariser's left out: its `2 reg w` is added by the update.
    /// The teacher takes its EMA step (once a call, as in the official code).
    pub fn losses(&mut self, input: &StepInput, clock: &mut Clock) -> Result<StepGrads, EngineError> {
        let StepInput { world, kernels, config, batch, .. } = *input;
        let reg_weight = config.loss.reg_weight;
        let reg = clock.time("regulariser", || self.regulariser(world, kernels, reg_weight));
        let weights = &self.weights;
        let graph = lightgcn::forward(input, &weights.embeds, clock)?;
        let profiles = input
            .texts
            .zip(weights.profile.as_ref())
            .map(|(texts, tower)| Profiles::forward(input, texts, tower, clock));
        let intents = input.texts.and_then(|texts| {
            Intents::forward(input, texts, weights.intent.as_ref(), weights.intents.as_ref(), &graph, clock)
        });

        let heads = clock.time("batch rows", || gather_heads(input, &graph.x, profiles.as_ref(), intents.as_ref()))?;
        // of the own heads [k, d] each
        let mut d_own = heads.zeros(batch.own.rows.size()[0]);
        let (bpr, d_heads) = clock.time("bpr", || bpr(kernels, batch, &heads.x));
        d_own.x += kernels.gather(&d_heads, &batch.own.places);
        // every rank has the whole of it
        let mut terms = Terms { bpr: if world.rank() == 0 { bpr } else { 0.0 }, ..Terms::default() };
        let mut d_x = graph.x.zeros_like();
        let mut d_profiles = None;
        if let Some(profiles) = &profiles {
            let (value, d_users) = clock.time("alignment", || profiles.align(input, &heads, &mut d_own))?;
            terms.kd = value;
            d_profiles = Some(d_users);
        }
        let mut d_s = intents.as_ref().map(Intents::zeros);
        if let (Some(intents), Some(d_s)) = (&intents, &mut d_s) {
            terms.kd_int = clock.time("alignment", || intents.align(input, &heads, &mut d_own, d_s))?;
            terms.translation = clock.time("translation", || intents.translate(input, &graph.x, d_s, &mut d_x))?;
            if let (Some(teacher), Some(student)) = (&mut self.teacher, &weights.intent) {
                teacher.follow(student, config.teacher_momentum);
                terms.itm = clock.time("matching", || intents.match_teacher(input, teacher, &terms, d_s));
            }
        }

        kernels.scatter_add(&mut d_x, &batch.own.rows, &d_own.x);
        let mut grads = weights.dense_zeros();
        if let (Some(profiles), Some(tower), Some(d_users), Some(d_z), Some(grad)) =
            (&profiles, &weights.profile, d_profiles, &d_own.z, &mut grads.profile)
        {
            clock.time("text towers backward", || profiles.backward(input, tower, d_users, d_z, grad))?;
        }
        let mut extra = Vec::new();
        if let (Some(intents), Some(mut d_s), Some(d_own_s), Some(d_g)) = (&intents, d_s, &d_own.s, &d_own.g) {
            kernels.scatter_add(&mut d_s, &batch.scope.heads, d_own_s);
            if let (Some(tower), Some(grad)) = (&weights.intent, &mut grads.intent) {
                clock.time("text towers backward", || intents.backward_text(input, tower, &d_s, grad))?;
            }
            let (d_layers, d_prototypes) =
                clock.time("intent view backward", || intents.backward_view(input, &graph, d_g))?;
            extra = d_layers;
            grads.intents = Some(d_prototypes);
        }
        grads.embeds = lightgcn::backward(input, &d_x, &extra, clock)?;

        clock.time("dense gradients", || self.sum_dense(world, &mut grads, config.teacher_sync_steps))?;
        let losses = clock.time("losses", || losses_by_rank(world, terms, reg))?;
        Ok(StepGrads { losses, weights: grads })
    }

    /// One flat all-reduce in f64: the dense gradients are summed; the teacher is averaged every `teacher_sync_steps`.
    /// Then the gradients are the weights' own kind.
    fn sum_dense(&mut self, world: &World, grads: &mut Weights, teacher_sync_steps: u64) -> Result<(), EngineError> {
        if world.size() > 1 {
            let syncs = (self.step + 1).is_multiple_of(teacher_sync_steps.max(1));
            let teacher = self.teacher.iter_mut().filter(|_| syncs).flat_map(Tower::tensors_mut);
            // equal f32 values keep their bits: their f64 sum is exact
            let shares = grads.dense_mut().into_iter().map(|x| (x, 1.0));
            let shares = shares.chain(teacher.map(|x| (x, world.size() as f64)));
            sum_flat(world, shares.collect())?;
        }
        for (grad, weight) in grads.dense_mut().into_iter().zip(self.weights.dense()) {
            *grad = grad.to_kind(weight.kind());
        }
        Ok(())
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

/// Each tensor becomes its f64 sum over the ranks, divided by its number.
fn sum_flat(world: &World, tensors: Vec<(&mut Tensor, f64)>) -> Result<(), EngineError> {
    if tensors.is_empty() {
        return Ok(());
    }
    let flat: Vec<Tensor> = tensors.iter().map(|(x, _)| x.to_kind(Kind::Double).reshape([-1])).collect();
    let sum = world.sum(Tensor::cat(&flat, 0))?;
    let mut at = 0;
    for (x, divisor) in tensors {
        let size = x.numel() as i64;
        x.copy_(&(sum.narrow(0, at, size) / divisor).view(x.size().as_slice()));
        at += size;
    }
    Ok(())
}

fn gather_heads(
    input: &StepInput,
    x: &Tensor,
    profiles: Option<&Profiles>,
    intents: Option<&Intents>,
) -> Result<HeadRows, EngineError> {
    // one table after the other: each takes room twice while it arrives
    let gather = |own: Tensor| input.world.gather_heads(input.batch, &own);
    let x = gather(input.kernels.gather(x, &input.batch.own.rows))?;
    let z = profiles.map(|profiles| gather(profiles.heads(input))).transpose()?;
    let [g, s] = match intents.map(|intents| intents.heads(input)) {
        Some([g, s]) => [Some(gather(g)?), Some(gather(s)?)],
        None => [None, None],
    };
    Ok(HeadRows { x, z, g, s })
}

fn losses_by_rank(world: &World, terms: Terms, reg: f64) -> Result<Vec<Losses>, EngineError> {
    let Terms { bpr, kd, kd_int, translation, itm } = terms;
    let ranks = world.gather_values(&[bpr, reg, kd, kd_int, translation, itm])?;
    let losses = ranks.into_iter().map(|values| {
        let [bpr, reg, kd, kd_int, translation, itm] = values[..] else { return Losses::default() };
        Losses { total: values.iter().sum(), bpr, reg, kd, kd_int, translation, itm }
    });
    Ok(losses.collect())
}
