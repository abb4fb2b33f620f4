//! Wire <-> domain: the small types both sides hold. Loses nothing; what may fail says so.

use crate::job::{AtK, Override, PhaseSeconds};

impl From<(usize, f64)> for AtK {
    fn from((k, value): (usize, f64)) -> AtK {
        AtK { k: u32::try_from(k).unwrap_or(u32::MAX), value }
    }
}

impl From<(String, f64)> for PhaseSeconds {
    fn from((phase, seconds): (String, f64)) -> PhaseSeconds {
        PhaseSeconds { phase, seconds }
    }
}

impl From<accord_spec::Override> for Override {
    fn from(set: accord_spec::Override) -> Override {
        Override { key: set.key, value: set.value }
    }
}

impl From<Override> for accord_spec::Override {
    fn from(set: Override) -> accord_spec::Override {
        accord_spec::Override { key: set.key, value: set.value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_survives_the_wire() {
        let set = accord_spec::Override { key: "loss.kd_weight".into(), value: "0.02".into() };
        assert_eq!(accord_spec::Override::from(Override::from(set.clone())), set);
    }
}
