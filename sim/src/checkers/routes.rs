//! Routes converge on the highest term: no name server ever goes back to an older one or forgets a topic, and once all is mended, every broker
//! and every name server names the same leader and term of every broker group, and these are the true ones; name servers
//! call all of its replicas alive.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The numbers of the replicas that it calls alive; `None` from a broker, which says nothing of that.
    pub alive: Option<BTreeSet<u64>>,
    /// The topics that it knows, of those that nobody deletes; none from a broker, which says nothing of that.
    pub topics: BTreeSet<String>,
}

/// A broker group as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// The term.
    pub term: u64,
    /// Its leader's number.
    pub leader: u64,
    /// The numbers of its replicas, all of them alive.
    pub replicas: BTreeSet<u64>,
}

/// The newest term and all topics of each broker group that each name server has told.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<(String, String), (u64, BTreeSet<String>)>);

impl Memory {
    /// What a name server tells while the run goes on.
    pub fn see(&mut self, told: &Told) -> Vec<String> {
        let of = (told.by.clone(), told.broker_group.clone());
        let (term, topics) = self.0.entry(of).or_default();
        let mut wrong = Vec::new();
        if told.term < *term {
            wrong.push(format!(
                "routes: {} went back from term {term} of {} to term {}",
                told.by, told.broker_group, told.term
            ));
        }
        if let Some(forgotten) = topics.difference(&told.topics).next() {
            wrong.push(format!(
                "routes: {} has forgotten topic {forgotten} of {} in term {}",
                told.by, told.broker_group, told.term
            ));
        }
        *term = told.term.max(*term);
        topics.extend(told.topics.iter().cloned());
        wrong
    }
}

/// What does not agree with the truth about each broker group.
pub fn check(truth: &BTreeMap<String, Truth>, told: &[Told]) -> Vec<String> {
    let mut wrong = Vec::new();
    for told in told {
        let Some(Truth { term, leader, replicas }) = truth.get(&told.broker_group) else {
            continue;
        };
        if (told.term, told.leader) != (*term, Some(*leader)) {
            wrong.push(format!(
                "routes: {} says that {:?} leads {} in term {}, it is {leader} in term {term}",
                told.by, told.leader, told.broker_group, told.term
            ));
        }
        if let Some(alive) = told.alive.as_ref().filter(|alive| *alive != replicas) {
            wrong.push(format!(
                "routes: {} calls replicas {alive:?} of {} alive, {replicas:?} are",
                told.by, told.broker_group
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
        let truth = Truth {
            term: 5,
            leader: 2,
            replicas: BTreeSet::from([1, 2]),
        };
        let truth = BTreeMap::from([("a".to_owned(), truth)]);
        let told = |term, leader| {
            vec![Told {
                by: "namesrv".to_owned(),
                broker_group: "a".to_owned(),
                term,
                leader,
                alive: None,
                topics: BTreeSet::new(),
            }]
        };
        assert!(check(&truth, &told(5, Some(2))).is_empty());
        assert_eq!(check(&truth, &told(4, Some(1))).len(), 1);
        assert_eq!(check(&truth, &told(5, None)).len(), 1);
        let calls_alive = |alive: &[u64]| {
            let mut told = told(5, Some(2));
            told[0].alive = Some(alive.iter().copied().collect());
            check(&truth, &told).len()
        };
        assert_eq!([&[1, 2][..], &[2], &[1, 2, 3]].map(calls_alive), [0, 1, 1]);
    }

    #[test]
    fn what_a_name_server_told_holds() {
        let told = |term, topics: &[&str]| Told {
            by: "namesrv".to_owned(),
            broker_group: "a".to_owned(),
            term,
            leader: None,
            alive: None,
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        };
        let mut memory = Memory::default();
        let mut wrong = |term| memory.see(&told(term, &[])).len();
        assert_eq!([4, 5, 5, 4, 5].map(&mut wrong), [0, 0, 0, 1, 0]);
        let mut wrong = |topics: &[&str]| memory.see(&told(5, topics)).len();
        assert_eq!([&["x"][..], &["x", "y"], &["y"], &[]].map(&mut wrong), [0, 0, 1, 1]);
    }
}
