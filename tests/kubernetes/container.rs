//! What a container finds: its variables, those of Secrets included, and folders in the place of its mounts.

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, Secret};
use kube::ResourceExt;
use kube::api::Api;
use std::collections::BTreeMap;
use tempfile::TempDir;

/// The cluster's names for coordinators. All of them run on this machine.
const COORDINATOR_HOSTS: [&str; 2] =
    ["accord-coordinator-0.accord-coordinator.accord.svc", "accord-coordinator-1.accord-coordinator.accord.svc"];

/// Folders for emptyDirs and Secrets, by the path that the container knows them by. Claims are not mounted: their paths
/// are folders of this machine already.
pub(crate) struct Mounts(Vec<(String, TempDir)>);

impl Mounts {
    pub(crate) async fn of(pod: &Pod, container: &Container, secrets: &Api<Secret>) -> Mounts {
        let mut mounts = Vec::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let mount = container.volume_mounts.iter().flatten().find(|mount| mount.name == volume.name);
            let Some(mount) = mount else { continue };
            if volume.empty_dir.is_some() {
                mounts.push((mount.mount_path.clone(), tempfile::tempdir().unwrap()));
            }
            let Some(source) = &volume.secret else { continue };
            let folder = tempfile::tempdir().unwrap();
            let data = secret(secrets, source.secret_name.as_deref().unwrap_or_default()).await;
            for item in source.items.iter().flatten() {
                std::fs::write(folder.path().join(&item.path), &data[&item.key]).unwrap();
            }
            mounts.push((mount.mount_path.clone(), folder));
        }
        Mounts(mounts)
    }

    /// A path of the container on this machine.
    fn mapped(&self, value: String) -> String {
        let inside = |mount: &String| value == *mount || value.starts_with(&format!("{mount}/"));
        match self.0.iter().find(|(mount, _)| inside(mount)) {
            Some((mount, folder)) => value.replacen(mount, folder.path().to_str().unwrap(), 1),
            None => value,
        }
    }
}

/// Empty where there is none: `optional: true`.
async fn secret(secrets: &Api<Secret>, name: &str) -> BTreeMap<String, Vec<u8>> {
    let found = secrets.get_opt(name).await.unwrap();
    found.into_iter().flat_map(|secret| secret.data).flatten().map(|(key, value)| (key, value.0)).collect()
}

/// As the kubelet makes them.
pub(crate) async fn variables(
    pod: &Pod,
    container: &Container,
    address: &str,
    secrets: &Api<Secret>,
    mounts: &Mounts,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for source in container.env_from.iter().flatten().filter_map(|from| from.secret_ref.as_ref()) {
        let data = secret(secrets, &source.name).await;
        all.extend(data.into_iter().map(|(key, value)| (key, String::from_utf8(value).unwrap())));
    }
    let field = |path: &str| match path {
        "metadata.name" => pod.name_any(),
        "status.podIP" => address.to_string(),
        other => {
            let key = other.trim_start_matches("metadata.annotations['").trim_start_matches("metadata.labels['");
            let key = key.trim_end_matches("']");
            pod.annotations().get(key).or_else(|| pod.labels().get(key)).cloned().unwrap_or_default()
        }
    };
    let value = |variable: &EnvVar| match &variable.value_from {
        Some(from) => field(&from.field_ref.as_ref().map(|f| f.field_path.clone()).unwrap_or_default()),
        None => mounts.mapped(variable.value.clone().unwrap_or_default()),
    };
    all.extend(container.env.iter().flatten().map(|variable| (variable.name.clone(), value(variable))));
    all.insert("TMPDIR".into(), mounts.mapped("/tmp".into()));
    all
}

/// With variables in the place of their names, and the cluster's names mapped.
pub(crate) fn expanded(argument: &str, variables: &BTreeMap<String, String>) -> String {
    let named =
        variables.iter().fold(argument.to_string(), |text, (name, value)| text.replace(&format!("$({name})"), value));
    COORDINATOR_HOSTS.iter().fold(named, |text, host| text.replace(host, "127.0.0.1"))
}
