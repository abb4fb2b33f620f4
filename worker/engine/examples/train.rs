#![allow(clippy::all, clippy::print_stdout)]
use accord_engine::report::*;
use accord_engine::{Runtime, Trainer};
use std::sync::Arc;
struct Print { every: u64, path: Option<String>, t: std::time::Instant }
impl Observer for Print {
    fn step(&mut self, r: &StepReport) -> Directive { if self.every > 0 && r.step % self.every == 0 { println!("step {} total {:.6} bpr {:.5} {:.4}s", r.step, r.losses.total, r.losses.bpr, r.seconds); } if self.every>0 && r.step == 60 {return Directive::Stop;} Directive::Continue }
    fn epoch(&mut self, r: &EpochReport) { if self.every > 0 || r.epoch % 3 == 0 { println!("epoch {} {:?} {:.3}s", r.epoch, r.losses, r.seconds); } if self.every>0 { for (p, s) in &r.phases { println!("   {p:24} {s:.4}"); } } }
    fn eval(&mut self, r: &EvalReport) { println!("eval {:?} epoch {} recall {:?} ndcg {:?} best {:.5}@{} eval {:.3}s t {:.0}s", r.split, r.epoch, r.recall, r.ndcg, r.best, r.best_epoch, r.seconds, self.t.elapsed().as_secs_f64()); }
    fn snapshot(&mut self, _s: accord_data::checkpoint::Snapshot) {}
    fn notice(&mut self, t: &str) { println!("notice: {t}"); }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&args[1]).unwrap();
    let mut every = 0; let mut threads = 2; let mut sets = vec![];
    for a in &args[2..] { if let Some(n) = a.strip_prefix("every=") { every = n.parse().unwrap(); } else if let Some(n) = a.strip_prefix("threads=") { threads = n.parse().unwrap(); } else { sets.push(a.parse().unwrap()); } }
    let spec = accord_spec::parse(&text, &sets).unwrap_or_else(|e| panic!("{e}"));
    let root = std::path::Path::new(&args[1]).parent().unwrap();
    let t = std::time::Instant::now();
    let ds = accord_data::Dataset::load(&spec.data, root, spec.job.seed, spec.model.kind != accord_spec::ModelKind::Lightgcn).unwrap_or_else(|e| panic!("{e}"));
    println!("{:?} loaded in {:.2}", ds.manifest, t.elapsed().as_secs_f64());
    let mut trainer = Trainer::new(&spec, Arc::new(ds), Runtime { threads, device: spec.cluster.device }).unwrap();
    let mut p = Print { every, path: None, t: std::time::Instant::now() };
    let _ = &p.path;
    println!("{:?}", trainer.run(&mut p).unwrap());
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{} {}", s.lines().find(|l| l.starts_with("VmHWM")).unwrap(), s.lines().find(|l| l.starts_with("VmRSS")).unwrap());
}
