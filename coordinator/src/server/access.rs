//! Who may call what: bearer tokens with two roles and, where one is asked for, a client's certificate. Pure. Tokens are
//! held as digests only, are compared in constant time and are never logged.

use accord_proto::status::{ApiError, ErrorCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a token allows; each role allows what the ones before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at jobs and their logs.
    Read,
    /// Submit, cancel and change jobs.
    Submit,
}

/// A client's secret, by its digest.
#[derive(Clone, Debug)]
pub struct Token {
    /// For the log: never the secret.
    pub name: String,
    pub role: Role,
    pub digest: blake3::Hash,
}

/// What clients have to show.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Empty: nobody is asked for one.
    pub tokens: Arc<[Token]>,
    /// Whether clients have to show a certificate, which the TLS layer has checked.
    pub certificate: bool,
}

/// Methods of `accord.job.v1.Jobs` that change nothing. Any other one needs [`Role::Submit`].
const READING: [&str; 6] = ["List", "Status", "Watch", "Logs", "Events", "Checkpoints"];
const JOBS: &str = "/accord.job.v1.Jobs/";
/// A worker proves itself by its job's own token, in its first message.
pub(super) const WORKER_SESSION: &str = "/accord.worker.v1.Workers/Session";
/// What asks whether the coordinator is well, such as a kubelet, can show nothing.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/";

/// The role a method needs; none for one that is open to everybody.
fn needed(path: &str) -> Option<Role> {
    if path == WORKER_SESSION || path == HEALTH_CHECK {
        return None;
    }
    let reads = path.strip_prefix(JOBS).is_some_and(|method| READING.contains(&method));
    let reads = reads || path == HEALTH_WATCH || path.starts_with(REFLECTION);
    Some(if reads { Role::Read } else { Role::Submit })
}

/// How a request came to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The method is open to everybody.
    Anyone,
    /// A client that showed what is asked for; the name of its token, where tokens are asked for.
    Client(Option<String>),
}

impl Access {
    /// Whether `path` may be called. `authorization`: the header, as far as it is text.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthenticated`], [`ErrorCode::WrongRole`].
    pub(super) fn admit(
        &self,
        path: &str,
        authorization: Option<&str>,
        has_certificate: bool,
    ) -> Result<Caller, ApiError> {
        let refuse = |code, text: String| Err(ApiError::new(code, text));
        let Some(needed) = needed(path) else { return Ok(Caller::Anyone) };
        if self.certificate && !has_certificate {
            let text = "this coordinator asks for a client certificate (--cert and --key)";
            return refuse(ErrorCode::Unauthenticated, text.into());
        }
        if self.tokens.is_empty() {
            return Ok(Caller::Client(None));
        }
        let Some(secret) = authorization.and_then(bearer) else {
            let text = "this coordinator asks for a token (--token-file, or ACCORD_TOKEN)";
            return refuse(ErrorCode::Unauthenticated, text.into());
        };
        let digest = blake3::hash(secret.as_bytes());
        // every token is looked at, and the comparison of two digests takes the same time wherever they differ
        let known =
            self.tokens.iter().fold(None, |found, token| if token.digest == digest { Some(token) } else { found });
        let Some(token) = known else {
            return refuse(ErrorCode::Unauthenticated, "the token is not one this coordinator knows".into());
        };
        if token.role < needed {
            return refuse(ErrorCode::WrongRole, format!("the token `{}` allows reading only", token.name));
        }
        Ok(Caller::Client(Some(token.name.clone())))
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, secret) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let token =
            |name: &str, role, secret: &str| Token { name: name.into(), role, digest: blake3::hash(secret.as_bytes()) };
        let tokens = [token("ci", Role::Submit, "may-submit"), token("board", Role::Read, "may-read")];
        Access { tokens: Arc::new(tokens), certificate: false }
    }

    fn code(access: &Access, method: &str, header: Option<&str>) -> Result<Caller, ErrorCode> {
        access.admit(&format!("{JOBS}{method}"), header, false).map_err(|e| e.code)
    }

    #[test]
    fn a_role_allows_its_methods_and_a_method_nobody_listed_needs_submit() {
        let access = access();
        let client = |name: &str| Ok(Caller::Client(Some(name.into())));
        assert_eq!(code(&access, "Submit", Some("Bearer may-submit")), client("ci"));
        assert_eq!(code(&access, "List", Some("bearer may-submit")), client("ci"));
        assert_eq!(code(&access, "List", Some("Bearer may-read")), client("board"));
        for method in ["Submit", "Cancel", "Suspend", "MadeLater", ""] {
            assert_eq!(code(&access, method, Some("Bearer may-read")), Err(ErrorCode::WrongRole), "{method}");
        }
    }

    /// A new method is put in one of the two lists by somebody who thought about it.
    #[test]
    fn every_method_of_jobs_either_reads_or_changes() {
        const CHANGING: [&str; 5] = ["Submit", "Cancel", "Suspend", "Resume", "Scale"];
        let methods = crate::server::methods::Methods::new();
        let of_jobs: Vec<&str> = methods.names().filter_map(|m| m.strip_prefix(&JOBS[1..])).collect();
        for method in &of_jobs {
            assert!(READING.contains(method) != CHANGING.contains(method), "{method}");
        }
        assert_eq!(of_jobs.len(), READING.len() + CHANGING.len());
    }

    #[test]
    fn no_token_an_unknown_one_and_another_scheme_are_refused_without_the_secret_in_the_answer() {
        let access = access();
        for header in
            [None, Some(""), Some("may-read"), Some("Basic may-read"), Some("Bearer"), Some("Bearer may-reaD")]
        {
            assert_eq!(code(&access, "List", header), Err(ErrorCode::Unauthenticated), "{header:?}");
        }
        let error = access.admit("/x/y", Some("Bearer s3cret-of-mine"), false).unwrap_err();
        assert!(!error.message.contains("s3cret"), "{error}");
    }

    #[test]
    fn workers_and_health_checks_need_neither_token_nor_certificate() {
        let access = Access { certificate: true, ..access() };
        for path in [WORKER_SESSION, HEALTH_CHECK] {
            assert_eq!(access.admit(path, None, false).unwrap(), Caller::Anyone);
        }
        let header = Some("Bearer may-read");
        assert_eq!(access.admit(HEALTH_WATCH, header, false).unwrap_err().code, ErrorCode::Unauthenticated);
        assert!(access.admit(HEALTH_WATCH, header, true).is_ok());
    }
}
