//! What an evaluation measures and which of it selects the best epoch, once the catalog is known: cut-offs above the number
//! of items and a selecting metric that is the same for every model are refused where the job file asks for them, and
//! replaced with a notice where they are defaults. Computes no metric.

use crate::error::EngineError;
use accord_data::Interactions;
use accord_spec::{Eval, Metric, MetricAtK};

/// Metrics and cut-offs of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Measures {
    /// In the order in which they are reported.
    pub metrics: Vec<Metric>,
    /// Ascending; at least one.
    pub ks: Vec<usize>,
}

impl Measures {
    /// The largest cut-off: how many items of each user must be ranked.
    pub fn width(&self) -> usize {
        self.ks.last().copied().unwrap_or(1)
    }
}

/// [`Measures`], the metric that selects the best epoch, and what a person should know of how they were chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalPlan {
    pub measures: Measures,
    pub select: MetricAtK,
    pub notices: Vec<String>,
}

impl EvalPlan {
    /// `validation` is the part on which the selecting metric is computed.
    ///
    /// # Errors
    /// [`EngineError::Data`] where the job file asks for a cut-off above the number of items, or for a selecting metric
    /// that cannot differ between epochs.
    pub fn new(eval: &Eval, train: &Interactions, validation: &Interactions) -> Result<EvalPlan, EngineError> {
        let items = train.items();
        let mut notices = Vec::new();
        let ks = cutoffs(eval, items, &mut notices)?;
        let mut metrics = eval.metrics.clone();
        let most = most_candidates(train, validation);
        let select = match &eval.select {
            Some(text) => named(text, &ks, items, most)?,
            None => default_select(&ks, items, most, &mut notices),
        };
        // the default may fall back to a metric that the job file does not list
        if !metrics.contains(&select.metric) {
            metrics.push(select.metric);
        }
        Ok(EvalPlan { measures: Measures { metrics, ks }, select, notices })
    }
}

fn cutoffs(eval: &Eval, items: usize, notices: &mut Vec<String>) -> Result<Vec<usize>, EngineError> {
    let (mut ks, beyond): (Vec<usize>, Vec<usize>) = eval.cutoffs().into_iter().partition(|&k| k <= items);
    let Some(largest) = beyond.last() else { return Ok(ks) };
    if eval.ks.is_some() {
        return Err(EngineError::Data(format!(
            "eval.ks: the cut-off {largest} is above the number of items, which is {items}\n  hint: use cut-offs up to \
             {items}, or leave eval.ks out"
        )));
    }
    if ks.is_empty() {
        ks.push(items.max(1));
    }
    let list = |ks: &[usize]| ks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    notices.push(format!(
        "eval.ks: the data have {items} items, so the default cut-off {} is left out; metrics are reported at {}",
        list(&beyond),
        list(&ks)
    ));
    Ok(ks)
}

/// The most items that are ranked for any user with validation items: all but the user's training items.
fn most_candidates(train: &Interactions, validation: &Interactions) -> usize {
    let users = (0..validation.users() as u32).filter(|&user| !validation.of(user).is_empty());
    users.map(|user| train.items() - train.of(user).len()).max().unwrap_or(0)
}

/// Whether a metric has the same value for every model: the first k are all items that can be ranked.
fn is_constant(select: MetricAtK, most: usize) -> bool {
    !select.metric.depends_on_order() && select.k >= most
}

fn named(text: &str, ks: &[usize], items: usize, most: usize) -> Result<MetricAtK, EngineError> {
    let select: MetricAtK = text.parse().map_err(|message| EngineError::Data(format!("eval.select: {message}")))?;
    if !ks.contains(&select.k) {
        let largest = ks.last().copied().unwrap_or(1);
        return Err(EngineError::Data(format!(
            "eval.select: the cut-off of {select} is above the number of items, which is {items}\n  hint: use a cut-off up \
             to {largest}, such as ndcg@{largest}"
        )));
    }
    if is_constant(select, most) {
        return Err(EngineError::Data(format!(
            "eval.select: {select} is the same for every model, so it cannot select an epoch: of the {items} items at most \
             {most} are ranked for a user (all but the user's training items), and the first {} hold them all\n  hint: use \
             ndcg@{}, which depends on the order, or a cut-off below {most}",
            select.k, select.k
        )));
    }
    Ok(select)
}

fn default_select(ks: &[usize], items: usize, most: usize, notices: &mut Vec<String>) -> MetricAtK {
    let select = Eval::default_select(ks);
    if !is_constant(select, most) {
        return select;
    }
    let other = MetricAtK { metric: Metric::Ndcg, k: select.k };
    notices.push(format!(
        "eval.select: {other} selects the best epoch, because {select} is the same for every model: of the {items} items at \
         most {most} are ranked for a user, and the first {} hold them all",
        select.k
    ));
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four users of a catalog of `items`; each has `trained` training items and one validation item.
    fn data(items: usize, trained: u32) -> [Interactions; 2] {
        let train: Vec<(u32, u32)> = (0..4).flat_map(|user| (0..trained).map(move |item| (user, item))).collect();
        let validation: Vec<(u32, u32)> = (0..4).map(|user| (user, items as u32 - 1)).collect();
        [train, validation].map(|pairs| Interactions::from_pairs(4, items, &pairs).unwrap().0)
    }

    fn eval(ks: Option<&[usize]>, select: Option<&str>) -> Eval {
        Eval { ks: ks.map(<[usize]>::to_vec), select: select.map(String::from), ..Eval::default() }
    }

    fn plan(eval: &Eval, items: usize, trained: u32) -> Result<EvalPlan, String> {
        let [train, validation] = data(items, trained);
        EvalPlan::new(eval, &train, &validation).map_err(|error| {
            assert!(matches!(error, EngineError::Data(_)), "{error:?} is no bad input");
            error.to_string()
        })
    }

    #[test]
    fn a_large_catalog_is_measured_as_asked_without_a_notice() {
        let plan = plan(&Eval::default(), 100, 3).unwrap();
        assert_eq!((plan.measures.ks.as_slice(), plan.measures.width()), ([5, 10, 20].as_slice(), 20));
        assert_eq!((plan.select.to_string(), plan.notices.len()), ("recall@20".into(), 0));
    }

    #[test]
    fn default_cutoffs_above_the_number_of_items_are_left_out_with_a_notice() {
        let plan_of_16 = plan(&Eval::default(), 16, 3).unwrap();
        assert_eq!(plan_of_16.measures.ks, [5, 10]);
        assert_eq!(plan_of_16.select.to_string(), "recall@10");
        assert!(plan_of_16.notices[0].contains("16 items") && plan_of_16.notices[0].contains("20 is left out"));
        // one cut-off stays, and there only the order can differ
        let plan_of_4 = plan(&eval(None, None), 4, 1).unwrap();
        assert_eq!((plan_of_4.measures.ks.as_slice(), plan_of_4.select.to_string()), ([4].as_slice(), "ndcg@4".into()));
        assert_eq!(plan_of_4.notices.len(), 2, "{:?}", plan_of_4.notices);
    }

    #[test]
    fn asked_for_cutoffs_above_the_number_of_items_are_refused() {
        let error = plan(&eval(Some(&[5, 20]), None), 16, 3).unwrap_err();
        assert!(error.contains("eval.ks") && error.contains("20") && error.contains("16"), "{error}");
        assert!(plan(&eval(Some(&[5, 16]), Some("ndcg@16")), 16, 3).is_ok());
        // the cut-off is a default, but select names it
        let error = plan(&eval(None, Some("ndcg@20")), 16, 3).unwrap_err();
        assert!(error.contains("eval.select") && error.contains("16"), "{error}");
    }

    #[test]
    fn a_selecting_metric_that_cannot_differ_is_refused_or_replaced() {
        // 20 of 23 items are ranked
        let replaced = plan(&Eval::default(), 23, 3).unwrap();
        assert_eq!(replaced.select.to_string(), "ndcg@20");
        assert!(replaced.notices[0].contains("recall@20"), "{:?}", replaced.notices);
        assert_eq!(plan(&Eval::default(), 24, 3).unwrap().select.to_string(), "recall@20");
        for constant in ["recall@20", "precision@20", "hit@20", "coverage@20"] {
            let asked = Eval { metrics: Metric::ALL.to_vec(), ..eval(None, Some(constant)) };
            let error = plan(&asked, 23, 3).unwrap_err();
            assert!(error.contains(constant) && error.contains("same for every model"), "{error}");
        }
        for other in ["ndcg@20", "mrr@20", "map@20", "recall@10"] {
            let asked = Eval { metrics: Metric::ALL.to_vec(), ..eval(None, Some(other)) };
            assert_eq!(plan(&asked, 23, 3).unwrap().select.to_string(), other);
        }
    }

    #[test]
    fn what_the_default_falls_back_to_is_measured_too() {
        let asked = Eval { metrics: vec![Metric::Recall], ..Eval::default() };
        assert_eq!(plan(&asked, 4, 1).unwrap().measures.metrics, [Metric::Recall, Metric::Ndcg]);
    }
}
