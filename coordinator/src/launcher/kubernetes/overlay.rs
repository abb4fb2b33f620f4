//! `[kubernetes.pod_template]` of a job file, merged into the pod template (pure): tables merge, lists of named things
//! merge by name, tolerations are added, any other value replaces. What Kubernetes would not know is refused, not dropped.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OverlayError {
    #[error("{0}")]
    Type(String),
    #[error("Kubernetes knows no field {0}\n  hint: keys are spelt as in YAML, such as spec.nodeSelector")]
    UnknownField(String),
    #[error("{path}: an entry needs `{key}`, by which it is merged")]
    NoName { path: String, key: &'static str },
}

/// # Errors
/// [`OverlayError`] for what is no part of a pod template.
pub(super) fn merged(template: PodTemplateSpec, overlay: &toml::Table) -> Result<PodTemplateSpec, OverlayError> {
    if overlay.is_empty() {
        return Ok(template);
    }
    let wrong = |e: serde_json::Error| OverlayError::Type(e.to_string());
    let overlay = serde_json::to_value(overlay).map_err(wrong)?;
    let mut whole = serde_json::to_value(template).map_err(wrong)?;
    merge(&mut whole, &overlay, "")?;
    let typed: PodTemplateSpec = serde_json::from_value(whole).map_err(wrong)?;
    // what the types do not know is gone by now
    let known = serde_json::to_value(&typed).map_err(wrong)?;
    match lost(&overlay, &known, "") {
        Some(path) => Err(OverlayError::UnknownField(path)),
        None => Ok(typed),
    }
}

/// By which of its fields an entry of a list is found.
fn merge_key(field: &str) -> Option<&'static str> {
    match field {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "ports" => Some("containerPort"),
        _ => None,
    }
}

fn merge(base: &mut Value, over: &Value, path: &str) -> Result<(), OverlayError> {
    let field = path.rsplit('.').next().unwrap_or_default();
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => merge_tables(base, over, path),
        (Value::Array(base), Value::Array(over)) if field == "tolerations" => {
            base.extend(over.iter().cloned());
            Ok(())
        }
        (Value::Array(base), Value::Array(over)) if merge_key(field).is_some() => {
            let key = merge_key(field).unwrap_or_default();
            for entry in over {
                let none = || OverlayError::NoName { path: path.into(), key };
                let name = entry.get(key).ok_or_else(none)?;
                match base.iter_mut().find(|known| known.get(key) == Some(name)) {
                    Some(known) => merge(known, entry, "")?,
                    None => base.push(entry.clone()),
                }
            }
            Ok(())
        }
        (base, over) => {
            base.clone_from(over);
            Ok(())
        }
    }
}

fn merge_tables(base: &mut Map<String, Value>, over: &Map<String, Value>, path: &str) -> Result<(), OverlayError> {
    for (field, value) in over {
        let path = join(path, field);
        match base.get_mut(field) {
            Some(known) => merge(known, value, &path)?,
            None => drop(base.insert(field.clone(), value.clone())),
        }
    }
    Ok(())
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.into() } else { format!("{path}.{field}") }
}

/// The first field of the overlay that the merged template does not have.
fn lost(over: &Value, whole: &Value, path: &str) -> Option<String> {
    match (over, whole) {
        (Value::Object(over), Value::Object(whole)) => over.iter().find_map(|(field, value)| {
            let path = join(path, field);
            whole.get(field).map_or(Some(path.clone()), |whole| lost(value, whole, &path))
        }),
        (Value::Array(over), Value::Array(whole)) => over.iter().enumerate().find_map(|(at, entry)| {
            // the merged entry holds all that it was given
            let path = format!("{path}[{at}]");
            let kept = whole.iter().map(|whole| lost(entry, whole, &path));
            kept.min_by_key(|lost| lost.is_some()).unwrap_or(Some(path.clone()))
        }),
        (over, whole) => (over != whole).then(|| path.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Container, PodSpec, Toleration};

    fn template() -> PodTemplateSpec {
        let container = Container { name: "worker".into(), image: Some("a".into()), ..Container::default() };
        let toleration = Toleration { key: Some("nvidia.com/gpu".into()), ..Toleration::default() };
        let spec = PodSpec {
            containers: vec![container],
            tolerations: Some(vec![toleration]),
            restart_policy: Some("Never".into()),
            ..PodSpec::default()
        };
        PodTemplateSpec { metadata: None, spec: Some(spec) }
    }

    fn with(overlay: &str) -> Result<PodSpec, OverlayError> {
        merged(template(), &toml::from_str(overlay).unwrap()).map(|template| template.spec.unwrap())
    }

    #[test]
    fn tables_merge_named_entries_merge_and_tolerations_are_added() {
        let pod = with(
            "[spec]\nnodeSelector = { pool = \"gpu\" }\n[[spec.tolerations]]\nkey = \"spot\"\noperator = \"Exists\"\n\
             [[spec.containers]]\nname = \"worker\"\nimagePullPolicy = \"Always\"\n\
             [[spec.containers]]\nname = \"sidecar\"\nimage = \"b\"\n",
        )
        .unwrap();
        assert_eq!(pod.node_selector.unwrap()["pool"], "gpu");
        assert_eq!(pod.tolerations.unwrap().len(), 2);
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
        assert_eq!(pod.containers.len(), 2);
        assert_eq!(pod.containers[0].image.as_deref(), Some("a"));
        assert_eq!(pod.containers[0].image_pull_policy.as_deref(), Some("Always"));
    }

    #[test]
    fn what_kubernetes_does_not_know_is_named() {
        let unknown = |path: &str| OverlayError::UnknownField(path.into());
        assert_eq!(with("[spec]\nnodeselector = { pool = \"gpu\" }\n"), Err(unknown("spec.nodeselector")));
        let inside = "[[spec.containers]]\nname = \"worker\"\nimagePulPolicy = \"Always\"\n";
        assert_eq!(with(inside), Err(unknown("spec.containers[0].imagePulPolicy")));
        assert!(matches!(with("[spec]\nhostname = 3\n"), Err(OverlayError::Type(_))));
        let unnamed = with("[[spec.containers]]\nimage = \"b\"\n").unwrap_err();
        assert_eq!(unnamed.to_string(), "spec.containers: an entry needs `name`, by which it is merged");
    }
}
