//! Interaction-text matching by momentum distillation, as the official code computes it (spec 5.6, quirk Q3): the
//! cross-entropy between softmaxes over the d output columns of the teacher's and the student's text towers.

use tch::{Kind, Tensor};

/// CE = -(1/N) sum_i sum_k softmax(teacher_i)_k log_softmax(student_i)_k over this rank's rows, both [n, d]; `nodes`: N over all ranks.
/// Adds `scale` dCE/dstudent to `d_student` and returns the unweighted value.
pub fn cross_entropy(student: &Tensor, teacher: &Tensor, nodes: usize, scale: f64, d_student: &mut Tensor) -> f64 {
    let kind = student.kind();
    let n = nodes as f64;
    let log_share = student.log_softmax(1, kind);
    let target = teacher.softmax(1, kind);
    let loss = -(&target * &log_share).sum(Kind::Double).double_value(&[]) / n;
    *d_student += (log_share.exp() - target) * (scale / n);
    loss
}
