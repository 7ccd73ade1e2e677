//! What a replica's disk says of its vote never goes back, over restarts too: the term grows, within a term the candidate
//! stays unless another one is known to have won the term, and a vote that a majority gave stays given.

use std::collections::BTreeMap;

use ledgermq_raft_store::inspect::VoteReport;

/// The newest durable vote of each replica.
#[derive(Debug, Default)]
pub struct Votes {
    newest: BTreeMap<String, VoteReport>,
}

impl Votes {
    /// A replica's durable vote at some moment; what contradicts it.
    pub fn see(&mut self, replica: &str, vote: Option<VoteReport>) -> Option<String> {
        let before = self.newest.get(replica).copied();
        if let Some(vote) = vote {
            self.newest.insert(replica.to_owned(), vote);
        }
        let before = before?;
        let Some(vote) = vote else {
            return Some(format!("votes: {replica} has forgotten {before:?}"));
        };
        let same_term = vote.term == before.term;
        let goes_back = vote.term < before.term
            || (same_term && vote.candidate != before.candidate && (before.is_committed || !vote.is_committed))
            || (same_term && before.is_committed && !vote.is_committed);
        goes_back.then(|| format!("votes: {replica} went from {before:?} to {vote:?}"))
    }

    /// The replica's disk was wiped: another one begins under its name.
    pub fn forget(&mut self, replica: &str) {
        self.newest.remove(replica);
    }
}

#[cfg(test)]
mod tests {
    use ledgermq_raft_store::{ReplicaId, types::Term};

    use super::*;

    fn vote(term: u64, candidate: u64, is_committed: bool) -> Option<VoteReport> {
        Some(VoteReport {
            term: Term(term),
            candidate: ReplicaId(candidate),
            is_committed,
        })
    }

    #[test]
    fn a_vote_that_goes_back_is_seen() {
        let goes = |to: Option<VoteReport>| {
            let mut votes = Votes::default();
            assert_eq!(votes.see("r", None), None);
            assert_eq!(votes.see("r", vote(3, 1, true)), None);
            votes.see("r", to)
        };
        assert_eq!(goes(vote(3, 1, true)), None);
        assert_eq!(goes(vote(4, 2, false)), None);
        let mut votes = Votes::default();
        let mut candidate = |to| votes.see("c", to).is_some();
        let lost = [vote(3, 1, false), vote(3, 2, false), vote(3, 1, true)];
        assert_eq!(lost.map(&mut candidate), [false, true, false]);
        for back in [None, vote(2, 1, true), vote(3, 2, true), vote(3, 1, false)] {
            assert!(goes(back).is_some(), "{back:?}");
        }
    }
}
