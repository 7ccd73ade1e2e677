//! The progress of a consumer group never goes back as the log goes on, and is the same on all replicas at the same entry.

use std::collections::BTreeMap;

use super::facts::Facts;
use crate::history::Progress;

/// See the file's header.
pub fn check(facts: &Facts<'_>) -> Vec<String> {
    let mut by_queue: BTreeMap<(&str, &str, &str, i64), Vec<&Progress>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for progress in &facts.progress {
        let of = (
            progress.broker_group.as_str(),
            progress.consumer_group.as_str(),
            progress.topic.as_str(),
            progress.queue,
        );
        by_queue.entry(of).or_default().push(progress);
        let within = progress.done <= progress.next && progress.next <= progress.end;
        let fits = i64::try_from(progress.not_done).is_ok_and(|open| open <= progress.next - progress.done);
        if !within || !fits {
            wrong.push(format!("the numbers do not fit together: {progress:?}"));
        }
    }
    for (of, mut seen) in by_queue {
        seen.sort_by_key(|progress| progress.index);
        for pair in seen.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let numbers = |progress: &Progress| (progress.done, progress.next, progress.end);
            let (had, has) = (numbers(before), numbers(after));
            if before.index == after.index && had != has {
                let (one, other, index) = (&before.reader, &after.reader, after.index);
                wrong.push(format!("{of:?} at entry {index}: {had:?} on {one}, {has:?} on {other}"));
            } else if has.0 < had.0 || has.1 < had.1 || has.2 < had.2 {
                wrong.push(format!(
                    "{of:?} went back from {had:?} at entry {} of {} to {has:?} at entry {} of {}",
                    before.index, before.reader, after.index, after.reader
                ));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::story::Story;

    #[test]
    fn steps_back_are_seen() {
        let found = |story: &Story| check(&Facts::of(story.events())).len();
        let one = Story::new().progress("g", "t", (1, 2, 5), 10);
        assert_eq!(found(&one.clone().progress("g", "t", (2, 2, 6), 11)), 0);
        assert_eq!(found(&one.clone().progress("g", "t", (0, 2, 5), 11)), 1);
        assert_eq!(
            found(&one.clone().progress("g", "t", (0, 2, 5), 9)),
            0,
            "a replica that is behind"
        );
        assert_eq!(found(&one.clone().progress("g", "t", (1, 3, 5), 10)), 1);
        assert_eq!(found(&one.progress("g", "t", (3, 2, 5), 12)), 1);
    }
}
