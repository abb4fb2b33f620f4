//! The datasets of RLMRec, IRLLRec and SSLRec as their authors ship them: `trn_mat.pkl`, `val_mat.pkl` and
//! `tst_mat.pkl` (SSLRec: `train_mat`, `valid_mat`, `test_mat`), pickled scipy.sparse matrices of users x items. Text
//! tables lie beside them as `usr_emb_np.pkl` and so on; `embeddings` reads those.

use super::files::{self, Located};
use super::{Found, Source, matrices, pickle};
use crate::error::DataError;
use crate::manifest::Repairs;
use std::path::Path;

/// File names without endings that hold text tables, in the datasets of the three projects.
const TEXTS: [&str; 4] = ["usr_emb_np", "itm_emb_np", "user_intent_emb_3", "item_intent_emb_3"];

pub(crate) fn locate(folder: &Path) -> Result<Located, DataError> {
    let mut parts = files::list(folder, &pickle::ENDINGS)?;
    parts.retain(|path| files::is_part(path));
    if parts.is_empty() {
        return Err(DataError::Missing {
            path: folder.join("trn_mat.pkl"),
            advice: "format \"rlmrec\" reads trn_mat.pkl, val_mat.pkl and tst_mat.pkl (or train_mat, valid_mat, \
                     test_mat): check data.path and data.format"
                .into(),
        });
    }
    files::assign(folder, parts, &pickle::ENDINGS, &|_| None)
}

pub(crate) fn read(source: &Source, located: Located, repairs: &mut Repairs) -> Result<Found, DataError> {
    matrices::read_parts(source, located, repairs, pickle::matrix)
}

/// Advice for a file of another format that is missing where pickled matrices lie.
pub(crate) fn instead_of_interactions(folder: &Path) -> Option<String> {
    let names = pickled(folder, files::is_part)?;
    Some(format!(
        "the folder holds {names}, matrices as RLMRec, IRLLRec and SSLRec ship them: set data.format = \"rlmrec\""
    ))
}

/// Advice for a text table that is missing where pickled tables lie.
pub(crate) fn instead_of_texts(folder: &Path) -> Option<String> {
    let names = pickled(folder, |path| TEXTS.contains(&files::stem(path).as_str()))?;
    Some(format!(
        "the folder holds {names}, text tables as RLMRec and IRLLRec ship them: name them under data.text, such as \
         user_profile = \"usr_emb_np.pkl\"; data.format = \"rlmrec\" reads them by these names, beside trn_mat.pkl"
    ))
}

/// Names of the pickled files that `holds` chooses; none if there is none.
fn pickled(folder: &Path, holds: impl Fn(&Path) -> bool) -> Option<String> {
    let mut found = files::list(folder, &pickle::ENDINGS).ok()?;
    found.retain(|path| holds(path));
    (!found.is_empty()).then(|| files::join_names(&found))
}
