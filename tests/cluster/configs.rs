//! Every job file in configs/ parses, is valid, and means what its name says.

use accord_harness::{coordinator, finish, root};

#[test]
fn every_config_is_a_valid_job() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("configs")).unwrap().flatten() {
        let path = entry.path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let spec = accord_spec::parse(&text, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let kind = spec.model.kind.name();
        let dataset = name.strip_suffix(&format!("-{kind}")).unwrap_or(&name);
        assert_eq!(spec.job.name, format!("{dataset}-{kind}"), "{name}");
        let path = match dataset.strip_suffix("-8gpu") {
            // where a cluster's claim is mounted
            Some(dataset) => format!("/data/{dataset}"),
            None if spec.data.synthetic.is_some() => String::new(),
            None => format!("../data/{dataset}"),
        };
        assert_eq!(spec.data.path, path, "{name}");
        assert!(name != dataset || kind == "irllrec", "{name} without a model in its name is IRLLRec");
        seen += 1;
    }
    assert!(seen >= 11, "{seen} job files");
}

/// What `submit` would create, as it was reviewed. After a change that is meant:
/// `coordinator render configs/amazon-8gpu.toml > tests/fixtures/kubernetes/amazon-8gpu.yaml`
#[test]
fn the_objects_of_a_job_are_those_that_were_reviewed() {
    let rendered = finish(&mut coordinator(&["render", "configs/amazon-8gpu.toml"]));
    assert_eq!(rendered.code, Some(0), "{}", rendered.stderr);
    let reviewed = root().join("tests/fixtures/kubernetes/amazon-8gpu.yaml");
    assert_eq!(rendered.stdout, std::fs::read_to_string(reviewed).unwrap());
}
