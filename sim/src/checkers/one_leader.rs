//! At most one replica of a broker group leads a term.

use std::collections::BTreeMap;

/// Who led which term.
#[derive(Debug, Default)]
pub struct OneLeader {
    leaders: BTreeMap<(String, u64), String>,
}

impl OneLeader {
    /// `replica` leads `term` of its broker group; what contradicts it.
    pub fn see(&mut self, broker_group: &str, term: u64, replica: &str) -> Option<String> {
        let of_term = (broker_group.to_owned(), term);
        let first = self.leaders.entry(of_term).or_insert_with(|| replica.to_owned());
        (first != replica).then(|| format!("one_leader: {first} and {replica} lead term {term} of {broker_group}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_leader_is_seen() {
        let mut leaders = OneLeader::default();
        assert_eq!(leaders.see("a", 3, "one"), None);
        assert_eq!(leaders.see("a", 3, "one"), None);
        assert_eq!(leaders.see("b", 3, "two"), None);
        assert_eq!(leaders.see("a", 4, "two"), None);
        assert!(leaders.see("a", 3, "two").is_some());
    }
}
