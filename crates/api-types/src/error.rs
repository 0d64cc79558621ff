use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error of every route. `detail` alone is what the first generation's clients read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong, in one sentence.
    pub detail: String,
    /// Stable name of the error; `docs/errors/<code>.md` explains it.
    pub code: String,
    /// The same in Chinese with what to do about it, where `detail` is English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zh: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}
