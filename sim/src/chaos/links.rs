//! What goes wrong between machines.

use std::time::Duration;

use super::{Chaos, Due, Stage, others};
use crate::{board::replica_name, faults::Fault};

type Links = Vec<(usize, usize)>;

fn both_ways(a: usize, b: usize) -> [(usize, usize); 2] {
    [(a, b), (b, a)]
}

/// All links between two sets of hosts, both ways.
fn between(some: &[usize], rest: &[usize]) -> Links {
    let pairs = some.iter().flat_map(|a| rest.iter().map(move |b| both_ways(*a, *b)));
    pairs.flatten().collect()
}

impl Chaos {
    /// Cuts some of the links of a machine.
    pub(super) fn cut_around(&mut self, stage: &mut Stage<'_>, fault: Fault, who: usize, until_ms: u64, for_ms: u64) {
        let (machines, hosts) = (stage.machines(), stage.hosts.len());
        let group = stage.fleet.group_of(who);
        let peers: Vec<usize> = others(who, machines)
            .filter(|other| stage.fleet.group_of(*other) == group)
            .collect();
        let apart = |rest: usize| others(who, rest).flat_map(|other| both_ways(who, other)).collect();
        let (name, links): (&'static str, Links) = match fault {
            Fault::Isolate(_) => ("isolate", apart(machines)),
            Fault::CutOff(_) => ("cut_off", apart(hosts)),
            Fault::Mute(_) => ("mute", others(who, machines).map(|other| (who, other)).collect()),
            Fault::Deafen(_) => ("deafen", others(who, machines).map(|other| (other, who)).collect()),
            Fault::ClientsCut(_) => {
                let clients: Vec<usize> = (machines + stage.name_servers..hosts).collect();
                ("clients_cut", between(&[who], &clients))
            }
            Fault::Bridge(_) => {
                let (left, right) = peers.split_at(peers.len() / 2);
                ("bridge", between(left, right))
            }
            Fault::Minority(_) => {
                let seats: Vec<usize> = stage.fleet.seats(group).into_values().collect();
                let start = seats.iter().position(|machine| *machine == who).unwrap_or(0);
                let size = seats.len().saturating_sub(1) / 2;
                let minority: Vec<usize> = (0..size).map(|n| seats[(start + n) % seats.len()]).collect();
                let rest: Vec<usize> = (0..machines).filter(|other| !minority.contains(other)).collect();
                ("minority", between(&minority, &rest))
            }
            _ => return,
        };
        self.cut_for(
            stage,
            name,
            links,
            until_ms,
            |title| format!("{name} {title} for {for_ms} ms"),
            who,
        );
    }

    fn cut_for(
        &mut self,
        stage: &mut Stage<'_>,
        name: &'static str,
        links: Links,
        until_ms: u64,
        story: impl FnOnce(String) -> String,
        who: usize,
    ) {
        if links.is_empty() {
            return;
        }
        stage.board.mark(name);
        stage.trace.tell("chaos", story(stage.title(who)));
        self.cut(stage, &links);
        self.schedule(until_ms, Due::Mend(links));
    }

    pub(super) fn split(&mut self, stage: &mut Stage<'_>, a: usize, b: usize, until_ms: u64, for_ms: u64) {
        if a != b {
            let far = replica_name(b);
            self.cut_for(
                stage,
                "split",
                both_ways(a, b).into(),
                until_ms,
                |title| format!("split {title} from {far} for {for_ms} ms"),
                a,
            );
        }
    }

    pub(super) fn name_server_cut(&mut self, stage: &mut Stage<'_>, which: usize, until_ms: u64, for_ms: u64) {
        if which >= stage.name_servers {
            return;
        }
        let host = stage.machines() + which;
        let links: Links = others(host, stage.hosts.len())
            .flat_map(|other| both_ways(host, other))
            .collect();
        stage.board.mark("name_server_cut");
        stage
            .trace
            .tell("chaos", format!("nobody reaches {} for {for_ms} ms", stage.hosts[host]));
        self.cut(stage, &links);
        self.schedule(until_ms, Due::Mend(links));
    }

    /// Cuts links, each from the first host to the second; cuts of one link are counted.
    pub fn cut(&mut self, stage: &mut Stage<'_>, links: &[(usize, usize)]) {
        for &(from, to) in links {
            if self.held.remove(&(from.min(to), from.max(to))) {
                stage.sim.release(stage.hosts[from].as_str(), stage.hosts[to].as_str());
            }
            let cuts = self.cuts.entry((from, to)).or_default();
            *cuts += 1;
            if *cuts == 1 {
                stage
                    .sim
                    .partition_oneway(stage.hosts[from].as_str(), stage.hosts[to].as_str());
            }
        }
    }

    /// Takes back one cut of each of these links.
    pub fn mend(&mut self, stage: &mut Stage<'_>, links: &[(usize, usize)]) {
        let mut mended = 0;
        for &(from, to) in links {
            let cuts = self.cuts.entry((from, to)).or_default();
            *cuts = cuts.saturating_sub(1);
            if *cuts == 0 {
                self.cuts.remove(&(from, to));
                stage
                    .sim
                    .repair_oneway(stage.hosts[from].as_str(), stage.hosts[to].as_str());
                mended += 1;
            }
        }
        let told = format!("{mended} of {} cut directions mended", links.len());
        stage.trace.tell("chaos", told);
    }

    /// Holds links that are neither cut nor held.
    pub(super) fn hold(&mut self, stage: &mut Stage<'_>, links: &[(usize, usize)], until_ms: u64, story: &str) {
        let mut held = Vec::new();
        for (a, b) in links {
            let (a, b) = (*a.min(b), *a.max(b));
            let cut = self.cuts.contains_key(&(a, b)) || self.cuts.contains_key(&(b, a));
            if a == b || cut || !self.held.insert((a, b)) {
                continue;
            }
            stage.sim.hold(stage.hosts[a].as_str(), stage.hosts[b].as_str());
            held.push((a, b));
        }
        if !held.is_empty() {
            stage.board.mark("hold");
            stage.trace.tell("chaos", story);
            self.schedule(until_ms, Due::Release(held));
        }
    }

    pub(super) fn release(&mut self, stage: &mut Stage<'_>, links: &Links) {
        let held: Vec<&(usize, usize)> = links.iter().filter(|link| self.held.remove(link)).collect();
        for (a, b) in &held {
            stage.sim.release(stage.hosts[*a].as_str(), stage.hosts[*b].as_str());
        }
        stage.trace.tell("chaos", format!("{} links released", held.len()));
    }

    pub(super) fn pause(&mut self, stage: &mut Stage<'_>, machine: usize, until_ms: u64, for_ms: u64) {
        let links: Links = others(machine, stage.hosts.len())
            .map(|other| (machine, other))
            .collect();
        let story = format!("pause {} for {for_ms} ms", stage.title(machine));
        stage.board.mark("pause");
        self.hold(stage, &links, until_ms, &story);
    }

    pub(super) fn slow(&mut self, stage: &mut Stage<'_>, machine: usize, ms: u64, until_ms: u64, for_ms: u64) {
        stage.board.mark("slow");
        let story = format!(
            "{} hears and is heard {ms} ms late for {for_ms} ms",
            stage.title(machine)
        );
        stage.trace.tell("chaos", story);
        self.set_latency(stage, machine, Duration::from_millis(ms));
        self.schedule(until_ms, Due::Fast(machine));
    }

    pub(super) fn set_latency(&mut self, stage: &mut Stage<'_>, machine: usize, latency: Duration) {
        for other in others(machine, stage.hosts.len()) {
            let (one, two) = (stage.hosts[machine].as_str(), stage.hosts[other].as_str());
            stage.sim.set_link_max_message_latency(one, two, latency);
        }
    }

    pub(super) fn reset(&mut self, stage: &mut Stage<'_>, machine: usize) {
        stage.board.mark("reset");
        let story = format!("the connections of {} are reset", stage.title(machine));
        stage.trace.tell("chaos", story);
        stage.fleet.net(machine).resets.reset();
    }
}
