use std::borrow::Cow;

use crate::Waiting;

/// Ids order by creation; a queue that is already sorted, the usual case, is not copied.
pub fn by_creation(waiting: &[Waiting]) -> Cow<'_, [Waiting]> {
    if waiting.is_sorted_by_key(|waiting| waiting.task) {
        return Cow::Borrowed(waiting);
    }
    let mut ordered = waiting.to_vec();
    ordered.sort_unstable_by_key(|waiting| waiting.task);
    Cow::Owned(ordered)
}
