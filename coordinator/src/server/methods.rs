//! The methods this server has, from the same descriptors that reflection answers with: what a client makes up is no
//! label of a metric.

use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::BTreeSet;

/// The services beside [`accord_proto::FILE_DESCRIPTOR_SET`].
pub(super) const DESCRIPTORS: [&[u8]; 3] = [
    accord_proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
];

/// What stands for every method there is not.
const OTHER: &str = "other";

pub(super) struct Methods {
    /// `package.Service/Method`
    known: BTreeSet<String>,
}

impl Methods {
    pub(super) fn new() -> Methods {
        let mut known = BTreeSet::new();
        for descriptors in DESCRIPTORS {
            // compiled in: a test reads them
            let set = FileDescriptorSet::decode(descriptors).unwrap_or_default();
            for file in &set.file {
                for service in &file.service {
                    let methods = service.method.iter();
                    known.extend(methods.map(|m| format!("{}.{}/{}", file.package(), service.name(), m.name())));
                }
            }
        }
        Methods { known }
    }

    /// The name of the method a request's path is for.
    pub(super) fn name(&self, path: &str) -> &str {
        self.known.get(path.trim_start_matches('/')).map_or(OTHER, String::as_str)
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_path_and_what_is_made_up_is_not() {
        let methods = Methods::new();
        for known in [
            "accord.job.v1.Jobs/Submit",
            "accord.worker.v1.Workers/Session",
            "grpc.health.v1.Health/Check",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            assert_eq!(methods.name(&format!("/{known}")), known);
        }
        assert_eq!(methods.name("/accord.job.v1.Jobs/Drop"), "other");
        assert_eq!(methods.name(""), "other");
    }
}
