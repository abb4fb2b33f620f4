//! The manifests under k8s/ and every rendered job pass the schemas of the versions that are meant.
