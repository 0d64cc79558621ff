use std::borrow::Cow;

use domain::TaskId;

/// Ids order by creation; a queue that is already sorted, the usual case, is not copied.
pub fn by_creation(waiting: &[TaskId]) -> Cow<'_, [TaskId]> {
    if waiting.is_sorted() {
        return Cow::Borrowed(waiting);
    }
    let mut ordered = waiting.to_vec();
    ordered.sort_unstable();
    Cow::Owned(ordered)
}
