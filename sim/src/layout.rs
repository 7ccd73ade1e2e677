//! Who is on the stage, drawn from the seed: broker groups with their replicas and spare machines, and name servers.

use crate::{
    run::Profile,
    seed::{Draws, Seed},
};

/// How many of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Voters of each broker group that the operator wants.
    pub broker_groups: Vec<usize>,
    /// Empty machines beside them in each broker group, for replicas that are added.
    pub spares: usize,
    /// Name servers.
    pub name_servers: usize,
}

impl Layout {
    /// The layout of a seed. Three replicas are what most clusters have; five cost twice as much, so they are rare.
    pub fn draw(seed: Seed, profile: Profile) -> Layout {
        let mut draws = seed.stream("layout");
        if profile == Profile::Log {
            return Layout {
                broker_groups: vec![3],
                spares: 0,
                name_servers: 0,
            };
        }
        Layout {
            broker_groups: vec![replicas(&mut draws, profile)],
            spares: 1,
            name_servers: draws.pick(&[1, 1, 2, 3]),
        }
    }

    /// The broker group of every machine, in the order of the machines: each broker group's voters, then its spares.
    pub fn machines(&self) -> Vec<usize> {
        let of_group = |(group, count): (usize, &usize)| vec![group; count + self.spares];
        self.broker_groups.iter().enumerate().flat_map(of_group).collect()
    }
}

fn replicas(draws: &mut Draws, profile: Profile) -> usize {
    let roll = draws.between(0, 99);
    match profile {
        Profile::Quick => 3,
        // Network faults tell more of five replicas, disk faults hit a single one hardest.
        Profile::Network if roll < 15 => 5,
        Profile::Disk | Profile::Power if roll < 10 => 1,
        Profile::Default if roll < 5 => 1,
        Profile::Default | Profile::Membership if roll >= 93 => 5,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_reach_every_size() {
        let sizes: std::collections::BTreeSet<usize> = (0..200)
            .map(|seed| Layout::draw(Seed(seed), Profile::Default).broker_groups[0])
            .collect();
        assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [1, 3, 5]);
    }

    #[test]
    fn machines_come_group_by_group() {
        let layout = Layout {
            broker_groups: vec![3, 1],
            spares: 1,
            name_servers: 1,
        };
        assert_eq!(layout.machines(), [0, 0, 0, 0, 1, 1]);
    }
}
