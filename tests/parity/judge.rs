//! Holds numbers against the fixture's.

use tch::{Device, Kind, Tensor};

/// Largest difference over the largest value, against the tolerance of the precision.
pub(crate) struct Judge {
    pub(crate) subject: String,
    kind: Kind,
    worst: f64,
    failures: Vec<String>,
}

impl Judge {
    pub(crate) fn new(subject: String, kind: Kind) -> Judge {
        Judge { subject, kind, worst: 0.0, failures: Vec::new() }
    }

    fn tolerance(&self) -> f64 {
        if self.kind == Kind::Double { 1e-10 } else { 1e-5 }
    }

    pub(crate) fn tensor(&mut self, what: &str, got: &Tensor, wanted: &Tensor) {
        let (got, wanted) = (got.to(Device::Cpu).to_kind(Kind::Double), wanted.to_kind(Kind::Double));
        assert_eq!(got.size(), wanted.size(), "{}: shape of {what}", self.subject);
        if wanted.numel() == 0 {
            return;
        }
        let largest = wanted.abs().max().double_value(&[]);
        let difference = (&got - &wanted).abs().max().double_value(&[]);
        let relative = if largest > 0.0 { difference / largest } else { difference };
        self.note(what, relative);
    }

    pub(crate) fn scalar(&mut self, what: &str, got: f64, wanted: f64) {
        self.note(what, if wanted == 0.0 { got.abs() } else { ((got - wanted) / wanted).abs() });
    }

    fn note(&mut self, what: &str, relative: f64) {
        // a NaN is not below any tolerance
        if relative.is_nan() || relative > self.tolerance() {
            self.failures.push(format!("{}: {what} is off by {relative:.2e}", self.subject));
        } else {
            self.worst = self.worst.max(relative);
        }
    }

    pub(crate) fn finish(self) {
        println!("{}: worst relative difference {:.1e}", self.subject, self.worst);
        assert!(self.failures.is_empty(), "\n{}", self.failures.join("\n"));
    }
}
