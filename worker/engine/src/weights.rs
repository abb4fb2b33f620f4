//! What is trained, as named tensors: parameters, and in the same shape their gradients and Adam moments.

use tch::{Kind, Tensor};

/// Two linear layers with LeakyReLU(0.01) between: T -> H -> d, H = floor((T + d) / 2). Layouts of torch.nn.Linear.
#[derive(Debug)]
pub struct Tower {
    /// [H, T]
    pub w1: Tensor,
    /// [H]
    pub b1: Tensor,
    /// [d, H]
    pub w2: Tensor,
    /// [d]
    pub b2: Tensor,
}

impl Tower {
    pub fn tensors(&self) -> [&Tensor; 4] {
        [&self.w1, &self.b1, &self.w2, &self.b2]
    }

    pub fn tensors_mut(&mut self) -> [&mut Tensor; 4] {
        [&mut self.w1, &mut self.b1, &mut self.w2, &mut self.b2]
    }

    /// theta <- momentum theta + (1 - momentum) student, for weights and biases (spec/IRLLREC.md 5.6).
    pub fn follow(&mut self, student: &Tower, momentum: f64) {
        for (teacher, student) in self.tensors_mut().into_iter().zip(student.tensors()) {
            *teacher *= momentum;
            *teacher += student * (1.0 - momentum);
        }
    }

    fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Tower {
        Tower { w1: f(&self.w1), b1: f(&self.b1), w2: f(&self.w2), b2: f(&self.b2) }
    }
}

/// Parameters of a model; those it does not have are none.
#[derive(Debug)]
pub struct Weights {
    /// [n, d] of the own nodes, users then items
    pub embeds: Tensor,
    /// Users' and items' intent prototypes, [d, K] each.
    pub intents: Option<[Tensor; 2]>,
    /// `mlp`: profile text
    pub profile: Option<Tower>,
    /// `int_mlp`: intent text
    pub intent: Option<Tower>,
}

const LAYERS: [&str; 4] = ["0.weight", "0.bias", "2.weight", "2.bias"];

/// Names of a tower's tensors, as the official code's `state_dict` has them.
pub fn tower_names(tower: &str) -> [String; 4] {
    LAYERS.map(|layer| format!("{tower}.{layer}"))
}

impl Weights {
    /// Every tensor with its name, in the official order; the embedding table is one, `embeds`.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        let mut all = vec![("embeds".to_owned(), &self.embeds)];
        if let Some([user, item]) = &self.intents {
            all.extend([("user_intent".to_owned(), user), ("item_intent".to_owned(), item)]);
        }
        for (name, tower) in [("mlp", &self.profile), ("int_mlp", &self.intent)] {
            all.extend(tower.iter().flat_map(|t| tower_names(name).into_iter().zip(t.tensors())));
        }
        all
    }

    /// The tensors of [`Weights::named`], to change.
    pub fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        let mut all = vec![&mut self.embeds];
        all.extend(self.intents.iter_mut().flatten());
        all.extend([&mut self.profile, &mut self.intent].into_iter().flatten().flat_map(Tower::tensors_mut));
        all
    }

    /// Every tensor but the embeddings: what all ranks have a copy of.
    pub fn dense(&self) -> Vec<&Tensor> {
        self.named().into_iter().skip(1).map(|(_, x)| x).collect()
    }

    pub fn dense_mut(&mut self) -> Vec<&mut Tensor> {
        self.tensors_mut().into_iter().skip(1).collect()
    }

    /// f64 zeros of the same shapes for gradients that sum over all nodes, but no rows of embeddings yet.
    pub fn dense_zeros(&self) -> Weights {
        let all = Weights { embeds: self.embeds.narrow(0, 0, 0), ..self.map(Tensor::shallow_clone) };
        all.map(|x| Tensor::zeros(x.size(), (Kind::Double, x.device())))
    }

    /// Zeros of the same shapes.
    pub fn zeros_like(&self) -> Weights {
        self.map(Tensor::zeros_like)
    }

    fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Weights {
        Weights {
            embeds: f(&self.embeds),
            intents: self.intents.as_ref().map(|[user, item]| [f(user), f(item)]),
            profile: self.profile.as_ref().map(|t| t.map(&f)),
            intent: self.intent.as_ref().map(|t| t.map(&f)),
        }
    }
}
