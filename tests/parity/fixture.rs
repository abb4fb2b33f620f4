//! One golden fixture: the official code's numbers in the engine's types.

use accord_data::Interactions;
use accord_engine::kernels::Precision;
use accord_engine::model::{ModelConfig, Texts};
use accord_engine::step::ModelState;
use accord_engine::weights::{Tower, Weights, tower_names};
use accord_spec::{Loss, ModelKind};
use std::collections::HashMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

pub(crate) struct Fixture {
    tensors: HashMap<String, Tensor>,
    hyper: serde_json::Value,
    kind: Kind,
    pub(crate) model: ModelKind,
    pub(crate) users: usize,
    pub(crate) items: usize,
}

impl Fixture {
    pub(crate) fn load(tag: &str, kind: Kind) -> Fixture {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden");
        let precision = if kind == Kind::Double { "f64" } else { "f32" };
        let tensors = Tensor::read_npz(folder.join(format!("{tag}_{precision}.npz"))).unwrap().into_iter().collect();
        let about: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join(format!("{tag}.json"))).unwrap()).unwrap();
        let count = |key: &str| about[key].as_u64().unwrap() as usize;
        let model = match tag {
            "lightgcn" => ModelKind::Lightgcn,
            "lightgcn_plus" => ModelKind::RlmrecCon,
            _ => ModelKind::Irllrec,
        };
        Fixture { tensors, hyper: about["hyper"].clone(), kind, model, users: count("users"), items: count("items") }
    }

    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the fixture has no {name}"))
    }

    pub(crate) fn scalar(&self, name: &str) -> f64 {
        self.get(name).to_kind(Kind::Double).double_value(&[])
    }

    /// A loss term as it enters the total; none where the fixture does not have it.
    pub(crate) fn term(&self, step: &str, name: &str) -> Option<f64> {
        let names = [format!("{step}.term.{name}"), format!("{step}.returned.{name}_loss")];
        names.iter().find(|n| self.tensors.contains_key(*n)).map(|n| self.scalar(n))
    }

    /// `prefix.name`, the two embedding tables as the engine's one.
    pub(crate) fn table(&self, prefix: &str, name: &str) -> Tensor {
        match name {
            "embeds" => Tensor::cat(
                &[self.get(&format!("{prefix}.user_embeds")), self.get(&format!("{prefix}.item_embeds"))],
                0,
            ),
            name => self.get(&format!("{prefix}.{name}")).copy(),
        }
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        let ids = self.get(name).to_kind(Kind::Int64).contiguous().view([-1]);
        Vec::<i64>::try_from(ids).unwrap().into_iter().map(|i| i as u32).collect()
    }

    fn interactions(&self, part: &str) -> Interactions {
        let pairs: Vec<(u32, u32)> =
            self.ids(&format!("{part}_row")).into_iter().zip(self.ids(&format!("{part}_col"))).collect();
        Interactions::from_pairs(self.users, self.items, &pairs).unwrap().0
    }

    pub(crate) fn train(&self) -> Interactions {
        self.interactions("trn")
    }

    pub(crate) fn test(&self) -> Interactions {
        self.interactions("tst")
    }

    pub(crate) fn batch(&self) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
        (self.ids("batch.user"), self.ids("batch.pos"), self.ids("batch.neg"))
    }

    /// With the embeddings of the nodes `own`.
    pub(crate) fn state(&self, own: &Tensor) -> ModelState {
        let get = |name: &str| self.table("param0", name);
        let tower = |name: &str| {
            let [w1, b1, w2, b2] = tower_names(name).map(|n| get(&n));
            Tower { w1, b1, w2, b2 }
        };
        let irllrec = self.model == ModelKind::Irllrec;
        let weights = Weights {
            embeds: get("embeds").index_select(0, own),
            intents: irllrec.then(|| [get("user_intent"), get("item_intent")]),
            profile: (self.model != ModelKind::Lightgcn).then(|| tower("mlp")),
            intent: irllrec.then(|| tower("int_mlp")),
        };
        ModelState::new(weights, irllrec.then(|| tower("int_mlp_m")))
    }

    pub(crate) fn texts(&self, own: &Tensor, device: Device) -> Option<Texts> {
        let table = |side: &str| {
            let rows = [self.get(&format!("in.usr{side}")), self.get(&format!("in.itm{side}"))];
            Tensor::cat(&rows, 0).index_select(0, own).to_kind(self.kind).to(device)
        };
        (self.model != ModelKind::Lightgcn)
            .then(|| Texts::new(table("prf"), (self.model == ModelKind::Irllrec).then(|| table("int"))))
    }

    /// The factors 1 + e that the official code drew in this step.
    pub(crate) fn noise(&self, step: &str, own: &Tensor, device: Device) -> Option<[Tensor; 2]> {
        let factor = |draw: &str| self.get(&format!("{step}.{draw}.randn_like")).index_select(0, own) + 1.0;
        (self.model == ModelKind::Irllrec).then(|| ["draw00", "draw01"].map(|draw| factor(draw).to(device)))
    }

    pub(crate) fn config(&self) -> ModelConfig {
        let number = |key: &str| self.hyper[key].as_f64();
        let default = Loss::default();
        let loss = Loss {
            reg_weight: number("reg_weight").unwrap(),
            kd_weight: number("kd_weight").unwrap_or(0.0),
            kd_temperature: number("kd_temperature").unwrap_or(default.kd_temperature),
            kd_int_weight: number("kd_int_weight").unwrap_or(0.0),
            kd_int_temperature: number("kd_int_temperature").unwrap_or(default.kd_int_temperature),
            translation_weight: number("kd_int_weight_2").unwrap_or(0.0),
            itm_weight: number("kd_int_weight_3").unwrap_or(0.0),
            ..default
        };
        let layers = self.hyper["layer_num"].as_u64().unwrap() as usize;
        ModelConfig {
            kind: self.model,
            layers,
            loss,
            teacher_momentum: 0.999,
            teacher_sync_steps: 1,
            precision: Precision::Full,
        }
    }
}
