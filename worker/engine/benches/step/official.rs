//! The official code's operators in libtorch with autograd: COO products, materialised B x U and N x N matrices, gathered
//! edges. The same libtorch, process and threads as ours, so that a ratio is taken in one run. Left out, in the official
//! code's favour: its Python sampling and loader.

use accord_data::Interactions;
use accord_engine::model::Texts;
use accord_engine::weights::{Tower, Weights};
use accord_spec::JobSpec;
use tch::{Device, Kind, Tensor, no_grad};

/// Node ids of a batch's pairs, [B] each.
pub(crate) struct PairIds {
    pub(crate) users: Tensor,
    pub(crate) positives: Tensor,
    pub(crate) negatives: Tensor,
}

pub(crate) struct Official<'a> {
    spec: &'a JobSpec,
    /// Kind and place of every number.
    on: (Kind, Device),
    texts: Option<&'a Texts>,
    users: i64,
    nodes: i64,
    /// [2, E] and [E]: A_hat in COO form
    indices: Tensor,
    values: Tensor,
    weights: Weights,
    teacher: Option<Tower>,
    moments: Vec<[Tensor; 2]>,
}

impl<'a> Official<'a> {
    pub(crate) fn new(
        spec: &'a JobSpec,
        train: &Interactions,
        texts: Option<&'a Texts>,
        mut weights: Weights,
        teacher: Option<Tower>,
    ) -> Self {
        let users = train.users() as i64;
        let nodes = users + train.items() as i64;
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        for (user, item) in train.pairs() {
            let (user, item) = (i64::from(user), users + i64::from(item));
            rows.extend([user, item]);
            columns.extend([item, user]);
        }
        let on = (Kind::Float, weights.embeds.device());
        let (rows, columns) = (Tensor::from_slice(&rows).to(on.1), Tensor::from_slice(&columns).to(on.1));
        let root = rows.bincount::<&Tensor>(None, nodes).to_kind(Kind::Float).pow_tensor_scalar(-0.5);
        let values = root.index_select(0, &rows) * root.index_select(0, &columns);
        let indices = Tensor::stack(&[rows, columns], 0);
        let moments = weights.tensors_mut().iter().map(|w| [w.zeros_like(), w.zeros_like()]).collect();
        weights.tensors_mut().into_iter().for_each(|w| *w = w.set_requires_grad(true));
        Official { spec, on, texts, users, nodes, indices, values, weights, teacher, moments }
    }

    /// Loss, autograd backward and dense Adam; returns the loss.
    pub(crate) fn step(&mut self, batch: &PairIds, number: i32) -> f64 {
        self.weights.tensors_mut().into_iter().for_each(|w| w.zero_grad());
        let loss = self.loss(batch);
        loss.backward();
        no_grad(|| {
            let (c1, c2) = (1.0 - 0.9f64.powi(number), 1.0 - 0.999f64.powi(number));
            for (w, [m, v]) in self.weights.tensors_mut().into_iter().zip(&mut self.moments) {
                let grad = w.grad();
                *m = &*m * 0.9 + &grad * 0.1;
                *v = &*v * 0.999 + grad.square() * 0.001;
                *w -= &*m / c1 * 1e-3 / ((&*v / c2).sqrt() + 1e-8);
            }
        });
        loss.double_value(&[])
    }

    fn adjacency(&self) -> Tensor {
        let size = [self.nodes, self.nodes];
        if self.spec.model.edge_keep == 1.0 {
            return Tensor::sparse_coo_tensor_indices_size(&self.indices, &self.values, size, self.on, false);
        }
        // SpAdjEdgeDrop: a mask over the entries, then a new matrix
        let kept =
            (Tensor::rand([self.values.size()[0]], self.on) + self.spec.model.edge_keep).floor().to_kind(Kind::Bool);
        let indices = self.indices.index(&[None, Some(&kept)]);
        Tensor::sparse_coo_tensor_indices_size(&indices, &self.values.index(&[Some(&kept)]), size, self.on, false)
    }

    /// E^0 .. E^L
    fn layers(&self) -> Vec<Tensor> {
        let adjacency = self.adjacency();
        let mut layers = vec![self.weights.embeds.shallow_clone()];
        for l in 0..self.spec.model.layers {
            layers.push(adjacency.mm(&layers[l]));
        }
        layers
    }

    fn loss(&mut self, batch: &PairIds) -> Tensor {
        let (config, b) = (&self.spec.loss, batch.users.numel() as f64);
        let layers = self.layers();
        let x = layers.iter().skip(1).fold(layers[0].shallow_clone(), |sum, e| sum + e);
        let [user, positive, negative] =
            [&batch.users, &batch.positives, &batch.negatives].map(|ids| x.index_select(0, ids));
        let margin = (&user * (&negative - &positive)).sum_dim_intlist(1, false, Kind::Float);
        let mut loss = margin.softplus().mean(Kind::Float);
        let squares = self.weights.named().into_iter().map(|(_, w)| w.square().sum(Kind::Float)).reduce(|a, b| a + b);
        loss += squares.unwrap_or_else(|| Tensor::from(0.0)) * config.reg_weight;
        let (Some(texts), Some(profile)) = (self.texts, &self.weights.profile) else { return loss };
        let z = run(profile, &texts.profile);
        loss += self.alignment(batch, &x, &z, config.kd_temperature) * (config.kd_weight / b);
        let (Some(tower), Some(text)) = (&self.weights.intent, &texts.intent) else { return loss };
        let g = self.intent_view(&layers[..self.spec.model.layers]);
        let s = run(tower, text);
        loss += self.alignment(batch, &g, &s, config.kd_int_temperature) * (config.kd_int_weight / b);
        let translation = self.translation(&s, &x) * config.translation_weight;
        let cross_entropy = self.teacher.as_mut().map(|teacher| {
            no_grad(|| teacher.follow(tower, 0.999));
            let target = no_grad(|| run(teacher, text)).softmax(1, Kind::Float);
            -(target * s.log_softmax(1, Kind::Float)).sum(Kind::Float) / self.nodes as f64
        });
        let matching =
            cross_entropy.map_or_else(|| Tensor::from(0.0), |ce| (&translation * 0.4 + ce * 0.6) * config.itm_weight);
        loss + translation + matching
    }

    fn alignment(&self, batch: &PairIds, view: &Tensor, text: &Tensor, temperature: f64) -> Tensor {
        let at = |table: &Tensor, ids: &Tensor| table.index_select(0, ids);
        let users =
            info_nce(&at(view, &batch.users), &at(text, &batch.users), &text.narrow(0, 0, self.users), temperature);
        let item = |ids: &Tensor| info_nce(&at(view, ids), &at(text, ids), &at(text, ids), temperature);
        users + item(&batch.positives) + item(&batch.negatives)
    }

    fn intent_view(&self, inputs: &[Tensor]) -> Tensor {
        let Some([c_user, c_item]) = &self.weights.intents else { return self.weights.embeds.zeros_like() };
        let (head, tail) = (self.indices.get(0), self.indices.get(1));
        let views: Vec<Tensor> = inputs
            .iter()
            .map(|e| {
                let side = |from: i64, rows: i64, c: &Tensor| {
                    e.narrow(0, from, rows).matmul(c).softmax(1, Kind::Float).matmul(&c.tr())
                };
                let v =
                    Tensor::cat(&[side(0, self.users, c_user), side(self.users, self.nodes - self.users, c_item)], 0);
                let ends = [&head, &tail].map(|ids| normalize(&v.index_select(0, ids)));
                let a = ((&ends[0] * &ends[1]).sum_dim_intlist(1, false, Kind::Float) + 1.0) / 2.0;
                let sum = Tensor::zeros([self.nodes], self.on).index_add(0, &head, &a);
                let w = a * sum.reciprocal().nan_to_num(0.0, 0.0, 0.0).index_select(0, &head);
                let messages = e.index_select(0, &tail) * w.unsqueeze(1);
                Tensor::zeros([self.nodes, e.size()[1]], self.on).index_add(0, &head, &messages)
            })
            .collect();
        Tensor::stack(&views, 0).mean_dim(0, false, Kind::Float)
    }

    fn translation(&self, s: &Tensor, x: &Tensor) -> Tensor {
        let noisy = |t: &Tensor| normalize(&(t * (t.randn_like() + 1.0)));
        let (y, x) = (noisy(s), noisy(x));
        let diagonal = (&y * &x).sum_dim_intlist(1, false, Kind::Float).exp();
        let sums = y.matmul(&x.tr()).exp().sum_dim_intlist(1, false, Kind::Float) + 1e-8;
        -((diagonal / sums + 1e-8).log()).mean(Kind::Float)
    }

    /// Dense scores of 1024 users at a time, masked, topk; returns the number of hits in the first 20.
    pub(crate) fn evaluate(&self, train: &Interactions, held_out: &Interactions) -> usize {
        let layers = no_grad(|| self.layers());
        let x = layers.iter().skip(1).fold(layers[0].detach(), |sum, e| sum + e.detach());
        let items = x.narrow(0, self.users, self.nodes - self.users);
        let users: Vec<u32> = (0..train.users() as u32).filter(|&u| !held_out.of(u).is_empty()).collect();
        let mut hits = 0;
        for users in users.chunks(1024) {
            let ids: Vec<i64> = users.iter().map(|&u| i64::from(u)).collect();
            let scores = x.index_select(0, &Tensor::from_slice(&ids).to(self.on.1)).matmul(&items.tr());
            let mut mask = vec![0.0f32; scores.numel()];
            for (row, &u) in users.iter().enumerate() {
                train.of(u).iter().for_each(|&i| mask[row * train.items() + i as usize] = 1.0);
            }
            let mask = Tensor::from_slice(&mask).to(self.on.1).view_as(&scores);
            let (_, best) = (scores * (-&mask + 1.0) - mask * 1e8).topk(20, 1, true, true);
            let best: Vec<i64> = Vec::try_from(best.to(Device::Cpu).contiguous().view([-1])).unwrap_or_default();
            for (best, &u) in best.chunks(20).zip(users) {
                hits += best.iter().filter(|&&i| held_out.contains(u, i as u32)).count();
            }
        }
        hits
    }
}

fn run(tower: &Tower, text: &Tensor) -> Tensor {
    let hidden = (text.matmul(&tower.w1.tr()) + &tower.b1).leaky_relu();
    hidden.matmul(&tower.w2.tr()) + &tower.b2
}

fn normalize(x: &Tensor) -> Tensor {
    x / x.square().sum_dim_intlist(1, true, Kind::Float).sqrt().clamp_min(1e-12)
}

fn info_nce(anchors: &Tensor, positives: &Tensor, keys: &Tensor, temperature: f64) -> Tensor {
    let unit = |x: &Tensor| x / (x.square().sum_dim_intlist(1, true, Kind::Float) + 1e-8).sqrt();
    let (anchors, positives, keys) = (unit(anchors), unit(positives), unit(keys));
    let positive = -(&anchors * positives).sum_dim_intlist(1, false, Kind::Float) / temperature;
    let all = (anchors.matmul(&keys.tr()) / temperature).exp().sum_dim_intlist(1, false, Kind::Float).log();
    (positive + all).sum(Kind::Float)
}
