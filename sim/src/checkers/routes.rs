//! Routes converge on the highest term: no name server ever goes back to an older one, and once all is mended, every broker
//! and every name server names the same leader and term, and these are the true ones.

use std::collections::BTreeMap;

/// Who leads a broker group in which term, as somebody says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who says it.
    pub by: String,
    /// Of which broker group.
    pub broker_group: String,
    /// The term.
    pub term: u64,
    /// The leader's number.
    pub leader: Option<u64>,
    /// The numbers of the replicas that it calls alive; a broker says nothing of that.
    pub alive: Vec<u64>,
}

/// The newest term of each broker group that each name server has told.
#[derive(Debug, Default)]
pub struct Terms(BTreeMap<(String, String), u64>);

impl Terms {
    /// What a name server tells while the run goes on.
    pub fn see(&mut self, told: &Told) -> Option<String> {
        let known = self.0.entry((told.by.clone(), told.broker_group.clone())).or_default();
        let went_back = told.term < *known;
        let wrong = format!(
            "routes: {} went back from term {known} of {} to term {}",
            told.by, told.broker_group, told.term
        );
        *known = told.term.max(*known);
        went_back.then_some(wrong)
    }
}

/// What does not agree with the truth: term and leader of each broker group.
pub fn check(truth: &BTreeMap<String, (u64, u64)>, told: &[Told]) -> Vec<String> {
    let mut wrong = Vec::new();
    for told in told {
        let Some((term, leader)) = truth.get(&told.broker_group) else {
            continue;
        };
        if (told.term, told.leader) != (*term, Some(*leader)) {
            wrong.push(format!(
                "routes: {} says that {:?} leads {} in term {}, it is {leader} in term {term}",
                told.by, told.leader, told.broker_group, told.term
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_of_an_older_term_is_seen() {
        let truth = BTreeMap::from([("a".to_owned(), (5, 2))]);
        let told = |term, leader| {
            vec![Told {
                by: "namesrv".to_owned(),
                broker_group: "a".to_owned(),
                term,
                leader,
                alive: Vec::new(),
            }]
        };
        assert!(check(&truth, &told(5, Some(2))).is_empty());
        assert_eq!(check(&truth, &told(4, Some(1))).len(), 1);
        assert_eq!(check(&truth, &told(5, None)).len(), 1);
        let mut terms = Terms::default();
        let mut wrong = |term| terms.see(&told(term, None)[0]).is_some();
        assert_eq!([4, 5, 5, 4, 5].map(&mut wrong), [false, false, false, true, false]);
    }
}
