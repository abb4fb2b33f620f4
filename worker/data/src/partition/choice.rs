//! What a job's options mean for its partition: the same answer for a plan and for the run.

use super::{Cost, Method, Scheme};
use accord_spec::{Halo, JobSpec, ModelKind, PartitionStrategy};

/// How a job's nodes are divided, and how their rows travel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    pub method: Method,
    pub scheme: Scheme,
    pub cost: Cost,
}

impl Choice {
    pub fn of(spec: &JobSpec) -> Choice {
        Choice { method: method(spec.partition.strategy), scheme: scheme(spec), cost: cost(spec.model.kind) }
    }
}

fn method(strategy: PartitionStrategy) -> Method {
    match strategy {
        PartitionStrategy::Fennel => Method::Fennel,
        PartitionStrategy::Hash => Method::Hash,
    }
}

/// Partial sums are for linear layers only: the intent view needs raw rows. They also sum up a row in another order, which
/// LightGCN does not mind; the contrastive models amplify the last bit within a few epochs, so they get raw rows by default.
fn scheme(spec: &JobSpec) -> Scheme {
    match (spec.partition.halo, spec.model.kind) {
        (Halo::Allgather, _) => Scheme::AllGather,
        (Halo::Raw, _) | (Halo::Prepost, ModelKind::Irllrec) => Scheme::Halo,
        (Halo::Auto, ModelKind::RlmrecCon | ModelKind::Irllrec) => Scheme::Halo,
        (Halo::Auto, ModelKind::Lightgcn) | (Halo::Prepost, ModelKind::Lightgcn | ModelKind::RlmrecCon) => {
            Scheme::Aggregate
        }
    }
}

/// A node costs its edges, its row of every table, and its text through the towers (IRLLRec's for every node, RLMRec-Con's for
/// every user). Rough, in edges: where text is read, memory goes by nodes, so they are what is kept even.
fn cost(model: ModelKind) -> Cost {
    match model {
        ModelKind::Lightgcn => Cost { edge: 1.0, node: 4.0 },
        ModelKind::RlmrecCon => Cost { edge: 1.0, node: 60.0 },
        ModelKind::Irllrec => Cost { edge: 1.0, node: 200.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(model: &str, sets: &[&str]) -> Choice {
        let text = format!("[job]\nname = \"a\"\n[data]\npath = \"d\"\n[model]\nkind = \"{model}\"\n");
        let sets: Vec<_> = sets.iter().map(|s| s.parse().unwrap()).collect();
        Choice::of(&accord_spec::parse(&text, &sets).unwrap())
    }

    #[test]
    fn partial_sums_are_for_linear_layers() {
        assert_eq!(choice("lightgcn", &[]).scheme, Scheme::Aggregate);
        assert_eq!(choice("irllrec", &[]).scheme, Scheme::Halo);
        assert_eq!(choice("lightgcn", &["partition.halo=raw"]).scheme, Scheme::Halo);
        assert_eq!(choice("irllrec", &["partition.halo=allgather"]).scheme, Scheme::AllGather);
        assert_eq!(choice("rlmrec-con", &["partition.strategy=hash"]).method, Method::Hash);
    }
}
