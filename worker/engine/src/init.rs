//! Initial parameters (spec/IRLLREC.md section 3): Xavier uniform weights, torch's default biases; drawn by counter, so
//! they depend on (seed, tensor, element) alone: a worker draws the rows it owns.

use crate::step::ModelState;
use crate::weights::{Tower, Weights};
use crate::world::World;
use accord_data::random::{Philox, Stream, unit};
use accord_spec::{JobSpec, ModelKind, TeacherInit};
use tch::Tensor;

/// What each drawn tensor is called in the counter; never reorder.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Drawn {
    UserEmbeds,
    ItemEmbeds,
    UserIntent,
    ItemIntent,
    Profile,
    Intent = 8,
    Teacher = 12,
}

struct Draw {
    generator: Philox,
}

impl Draw {
    /// Elements `first..` of a tensor, from U(-bound, bound).
    fn fill(&self, tensor: u64, first: usize, bound: f64, out: &mut [f32]) {
        let mut words = [0; 4];
        for (element, value) in (first..).zip(out.iter_mut()) {
            if element % 4 == 0 || element == first {
                words = self.generator.block(tensor, element as u64 / 4);
            }
            *value = ((2.0 * f64::from(unit(words[element % 4])) - 1.0) * bound) as f32;
        }
    }

    fn uniform(&self, tensor: u64, shape: &[usize], bound: f64) -> Tensor {
        let mut values = vec![0.0f32; shape.iter().product()];
        self.fill(tensor, 0, bound, &mut values);
        Tensor::from_slice(&values).view(shape.iter().map(|&n| n as i64).collect::<Vec<_>>().as_slice())
    }

    /// Xavier uniform: bound sqrt(6 / (rows + columns))
    fn xavier(&self, tensor: u64, rows: usize, columns: usize) -> Tensor {
        self.uniform(tensor, &[rows, columns], (6.0 / (rows + columns) as f64).sqrt())
    }

    /// The embeddings of the own nodes [n, d]; each side is a table of its own.
    fn embeds(&self, world: &World, d: usize) -> Tensor {
        let bound = |rows: usize| (6.0 / (rows + d) as f64).sqrt();
        let mut values = vec![0.0f32; world.rows() * d];
        for (&node, row) in world.graph.own().iter().zip(values.chunks_exact_mut(d)) {
            let node = node as usize;
            match node.checked_sub(world.users) {
                None => self.fill(Drawn::UserEmbeds as u64, node * d, bound(world.users), row),
                Some(item) => self.fill(Drawn::ItemEmbeds as u64, item * d, bound(world.items), row),
            }
        }
        Tensor::from_slice(&values).view([-1, d as i64])
    }

    /// `first` counts the tower's four tensors.
    fn tower(&self, first: u64, text: usize, d: usize) -> Tower {
        let hidden = (text + d) / 2;
        let bias = |tensor, n, fan_in: usize| self.uniform(tensor, &[n], 1.0 / (fan_in as f64).sqrt());
        Tower {
            w1: self.xavier(first, hidden, text),
            b1: bias(first + 1, hidden, text),
            w2: self.xavier(first + 2, d, hidden),
            b2: bias(first + 3, d, hidden),
        }
    }
}

/// `widths`: profile and intent text widths.
pub fn state(spec: &JobSpec, world: &World, widths: Option<[usize; 2]>) -> ModelState {
    let draw = Draw { generator: Philox::new(spec.job.seed, Stream::Init) };
    let (d, k) = (spec.model.dim, spec.model.intents);
    let embeds = draw.embeds(world, d);
    let irllrec = spec.model.kind == ModelKind::Irllrec;
    let aligned = spec.model.kind != ModelKind::Lightgcn;
    let widths = widths.filter(|_| aligned);
    let intent = widths.filter(|_| irllrec).map(|[_, text]| draw.tower(Drawn::Intent as u64, text, d));
    let teacher = widths.zip(intent.as_ref()).map(|([_, text], student)| teacher(spec, &draw, text, student));
    let prototypes = |tensor: Drawn| draw.xavier(tensor as u64, d, k);
    let weights = Weights {
        embeds,
        intents: irllrec.then(|| [prototypes(Drawn::UserIntent), prototypes(Drawn::ItemIntent)]),
        profile: widths.map(|[text, _]| draw.tower(Drawn::Profile as u64, text, d)),
        intent,
    };
    ModelState::new(weights, teacher)
}

fn teacher(spec: &JobSpec, draw: &Draw, text: usize, student: &Tower) -> Tower {
    let independent = draw.tower(Drawn::Teacher as u64, text, spec.model.dim);
    match spec.model.teacher_init {
        // the official code re-draws the weights after copying, so only the biases start equal (quirk Q1)
        TeacherInit::Independent => Tower { b1: student.b1.copy(), b2: student.b2.copy(), ..independent },
        TeacherInit::Copy => {
            let [w1, b1, w2, b2] = student.tensors().map(Tensor::copy);
            Tower { w1, b1, w2, b2 }
        }
    }
}
