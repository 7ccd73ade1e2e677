//! What was gathered, and the same sorted by broker group: who sits where, and who answered.

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_proto::admin::HealthMember;
pub use ledgermq_proto::admin::ReportHealthResponse as Report;
use ledgermq_proto::registry::Routes;

/// A replica's report, and the address that it was asked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Where it was asked.
    pub address: String,
    /// What it said.
    pub report: Report,
}

/// A data folder of this machine that was looked into.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folder {
    /// The log's folder.
    pub log: String,
    /// A broker runs on it, so it was not read.
    pub is_running: bool,
    /// Broker group and number of the replica that it belongs to, where that could be read.
    pub owner: Option<(String, u64)>,
    /// Entries and segments that were read.
    pub entries: u64,
    /// See above.
    pub segments: u64,
    /// What is wrong: whether it is corruption, and in words with file, position and remedy.
    pub damages: Vec<(bool, String)>,
    /// More of the same that were not listed.
    pub more: u64,
}

/// Everything that was gathered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Who answered.
    pub answers: Vec<Answer>,
    /// Which addresses gave no report, and why.
    pub silent: BTreeMap<String, String>,
    /// What each name server said, by address.
    pub name_servers: BTreeMap<String, Result<Routes, String>>,
    /// The folder of `--data-dir`.
    pub folder: Option<Folder>,
}

/// A member of a broker group, and its report.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    /// What the membership says.
    pub member: &'a HealthMember,
    /// What the replica with this number and folder says; `None` where it gave no report.
    pub report: Option<&'a Report>,
}

impl Seat<'_> {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.member.id
    }
}

/// One broker group.
#[derive(Debug)]
pub struct BrokerGroup<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its cluster; empty before the bootstrap.
    pub cluster_id: &'a str,
    /// The membership is a step between two.
    pub joint: bool,
    /// Its members by number; empty before the bootstrap.
    pub seats: Vec<Seat<'a>>,
    /// Who answered in its name and has no seat.
    pub strangers: Vec<&'a Answer>,
    /// Replicas that name servers or other broker groups tell of: number and address.
    pub told: BTreeSet<(u64, &'a str)>,
    survey: &'a Survey,
}

impl Survey {
    /// The names of all broker groups that anybody knows.
    pub fn group_names(&self) -> BTreeSet<&str> {
        let own = self.answers.iter().map(|answer| answer.report.broker_group.as_str());
        own.chain(self.told().map(|(group, _, _)| group)).collect()
    }

    /// What replicas and name servers tell of others: broker group, number, address.
    fn told(&self) -> impl Iterator<Item = (&str, u64, &str)> {
        let by_replicas = self.answers.iter().flat_map(|answer| &answer.report.others);
        let by_replicas = by_replicas.map(|it| (it.broker_group.as_str(), it.id, it.client_address.as_str()));
        let routes = self.name_servers.values().filter_map(|routes| routes.as_ref().ok());
        let groups = routes.flat_map(|routes| &routes.broker_groups);
        let by_name_servers = groups.flat_map(|group| {
            let replicas = group.replicas.iter();
            replicas.map(|it| (group.name.as_str(), it.id, it.client_address.as_str()))
        });
        by_replicas.chain(by_name_servers)
    }

    /// One broker group, sorted.
    pub fn group<'a>(&'a self, name: &'a str) -> BrokerGroup<'a> {
        let answers: Vec<&Answer> = self
            .answers
            .iter()
            .filter(|it| it.report.broker_group == name)
            .collect();
        let cluster_id = cluster_of(&answers);
        let insiders = answers.iter().filter(|it| it.report.cluster_id == cluster_id);
        let newest = insiders
            .filter(|it| !it.report.members.is_empty())
            .max_by_key(|it| (it.report.membership_term, it.report.membership_index));
        let members = newest.map_or(&[][..], |it| &it.report.members);
        let seats: Vec<Seat> = members
            .iter()
            .map(|member| Seat {
                member,
                report: answers.iter().map(|it| &it.report).find(|report| {
                    let same = report.replica == member.id && report.incarnation == member.incarnation;
                    same && report.cluster_id == cluster_id
                }),
            })
            .collect();
        let seated = |report: &Report| {
            let of_seat =
                |seat: &Seat| (seat.member.id, seat.member.incarnation) == (report.replica, report.incarnation);
            report.cluster_id == cluster_id && seats.iter().any(of_seat)
        };
        let mut seen = BTreeSet::new();
        let strangers = answers.iter().copied().filter(|it| !seated(&it.report));
        let strangers = strangers
            .filter(|it| seen.insert((it.report.replica, it.report.incarnation)))
            .collect();
        let told = self.told().filter(|(group, _, _)| *group == name);
        BrokerGroup {
            name,
            cluster_id,
            joint: newest.is_some_and(|it| it.report.membership_joint),
            strangers,
            told: told.map(|(_, id, address)| (id, address)).collect(),
            seats,
            survey: self,
        }
    }
}

/// The cluster that a broker group belongs to, where replicas of several answer in its name: the one that works, else
/// the one of most replicas.
fn cluster_of<'a>(answers: &[&'a Answer]) -> &'a str {
    let mut clusters: BTreeMap<&str, (bool, usize)> = BTreeMap::new();
    for report in answers.iter().map(|it| &it.report) {
        let (works, count) = clusters.entry(&report.cluster_id).or_default();
        *works |= report.ready;
        *count += usize::from(!report.cluster_id.is_empty());
    }
    let best = clusters.into_iter().max_by_key(|(_, (works, count))| (*works, *count));
    best.map_or("", |(cluster_id, _)| cluster_id)
}

impl<'a> BrokerGroup<'a> {
    /// The reports of members that have not stopped.
    pub fn working(&self) -> impl Iterator<Item = &'a Report> + '_ {
        let reports = self.seats.iter().filter_map(|seat| seat.report);
        reports.filter(|report| report.poisoned.is_empty() && report.role != "removed")
    }

    /// The voters.
    pub fn voters(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.seats.iter().filter(|seat| seat.member.voter)
    }

    /// How many voters are a majority.
    pub fn majority(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    /// Somebody reaches committed probes: the broker group serves.
    pub fn serves(&self) -> bool {
        self.working().any(|report| report.ready)
    }

    /// The report of the leader: the one of the highest term among those that serve.
    pub fn leader(&self) -> Option<&'a Report> {
        self.working()
            .filter(|report| report.serving)
            .max_by_key(|report| report.term)
    }

    /// The members that one of them hears, itself included.
    pub fn heard_by(&self, report: &Report) -> BTreeSet<u64> {
        let lately = |ago: Option<u64>| ago.is_some_and(|ago| ago <= report.away_after_ms);
        let heard = report.members.iter().filter(|member| lately(member.heard_ms_ago));
        heard.map(|member| member.id).chain([report.replica]).collect()
    }

    /// Who heard this member last among those that do the hearing, and how many milliseconds ago.
    pub fn last_heard(&self, id: u64) -> Option<(u64, u64)> {
        let said = self
            .working()
            .filter(|report| report.replica != id)
            .filter_map(|report| {
                let member = report.members.iter().find(|member| member.id == id)?;
                Some((member.heard_ms_ago?, report.replica))
            });
        said.min().map(|(ago, by)| (by, ago))
    }

    /// Why this address gave no report; `None` where it gave one, or was not asked.
    pub fn silence(&self, address: &str) -> Option<&'a str> {
        self.survey.silent.get(address).map(String::as_str)
    }

    /// Who answered at this address.
    pub fn answer_at(&self, address: &str) -> Option<&'a Report> {
        let answer = self.survey.answers.iter().find(|answer| answer.address == address);
        answer.map(|answer| &answer.report)
    }

    /// Another folder that runs under a member's number.
    pub fn impostor(&self, seat: &Seat) -> Option<&'a Report> {
        let of_number = self.strangers.iter().map(|it| &it.report);
        of_number
            .filter(|report| report.role != "removed")
            .filter(|report| report.cluster_id.is_empty() || report.cluster_id == self.cluster_id)
            .find(|report| report.replica == seat.id() && report.incarnation != seat.member.incarnation)
    }

    /// Which member complains that another refuses it, and with what words; the number of the one that is refused first.
    pub fn refusals(&self, id: u64) -> Option<(u64, &'a str)> {
        self.working().find_map(|report| {
            let member = report.members.iter().find(|member| member.id == id)?;
            let trouble = member.trouble.as_ref().filter(|trouble| trouble.refuses)?;
            Some((report.replica, trouble.reason.as_str()))
        })
    }
}
