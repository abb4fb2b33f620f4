//! Bounds on what a request says, beside that on its size: what is echoed into errors, logs and file names stays short.

use accord_proto::job::SubmitRequest;
use accord_proto::status::{ApiError, ErrorCode};
use accord_proto::worker::Register;

/// A job's or submission's id, a worker's or host's name, an address.
const MAX_NAME_BYTES: usize = 256;
/// A dotted key of `--set`.
const MAX_KEY_BYTES: usize = 256;
/// One value of `--set`.
const MAX_VALUE_BYTES: usize = 16 * 1024;
/// A folder: what Linux takes.
const MAX_PATH_BYTES: usize = 4096;
const MAX_OVERRIDES: usize = 256;

type Checked = Result<(), ApiError>;

fn at_most(what: &str, size: usize, most: usize, unit: &str) -> Checked {
    if size <= most {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::BadInput, format!("{what} has {size} {unit}; it may have {most}")))
}

/// # Errors
/// [`ErrorCode::BadInput`], like all of this module.
pub(super) fn job_id(id: &str) -> Checked {
    at_most("the job id", id.len(), MAX_NAME_BYTES, "bytes")
}

pub(super) fn submission(request: &SubmitRequest) -> Checked {
    at_most("the submission id", request.submission_id.len(), MAX_NAME_BYTES, "bytes")?;
    at_most("the job file's folder", request.job_root.len(), MAX_PATH_BYTES, "bytes")?;
    at_most("the submission", request.overrides.len(), MAX_OVERRIDES, "overrides")?;
    for set in &request.overrides {
        at_most("a key to override", set.key.len(), MAX_KEY_BYTES, "bytes")?;
        at_most("a value to override by", set.value.len(), MAX_VALUE_BYTES, "bytes")?;
    }
    Ok(())
}

pub(super) fn registration(register: &Register) -> Checked {
    job_id(&register.job_id)?;
    for (what, text) in [
        ("the worker's name", &register.worker),
        ("the token", &register.token),
        ("the host's name", &register.host),
        ("the store's address", &register.store),
    ] {
        at_most(what, text.len(), MAX_NAME_BYTES, "bytes")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_proto::job::Override;

    #[test]
    fn what_is_too_long_is_named_and_not_repeated() {
        let long = "x".repeat(MAX_PATH_BYTES + 1);
        let set = |key: &str, value: &str| vec![Override { key: key.into(), value: value.into() }];
        let good = SubmitRequest { overrides: set("optim.lr", "1e-3"), ..SubmitRequest::default() };
        assert!(submission(&good).is_ok());
        let many = vec![Override::default(); MAX_OVERRIDES + 1];
        for (bad, word) in [
            (SubmitRequest { submission_id: long.clone(), ..good.clone() }, "submission id"),
            (SubmitRequest { job_root: long.clone(), ..good.clone() }, "folder"),
            (SubmitRequest { overrides: set(&long, "1"), ..good.clone() }, "key"),
            (SubmitRequest { overrides: set("a.b", &long.repeat(5)), ..good.clone() }, "value"),
            (SubmitRequest { overrides: many, ..good }, "overrides"),
        ] {
            let error = submission(&bad).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadInput);
            assert!(error.message.contains(word) && error.message.len() < 100, "{error}");
        }
        assert!(job_id(&long).is_err());
        assert!(registration(&Register { host: long, ..Register::default() }).is_err());
    }
}
