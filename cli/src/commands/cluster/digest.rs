//! `ledgermq cluster --digest`: the hash of each replica's state as of the same entry.

use crate::admin::Target;
use crate::broker_groups;
use crate::failure::{Failure, Kind};
use crate::limits;
use crate::output::{Table, json_line, line_out};
use ledgermq_proto::admin::{self, ProposeDigestRequest, ReadDigestRequest};
use serde::Serialize;
use tokio::time::{Instant, sleep};

/// What `--json` prints. Its keys are a promise to scripts.
#[derive(Serialize)]
struct Digests {
    /// All broker groups, by name.
    broker_groups: Vec<BrokerGroup>,
}

/// One broker group.
#[derive(Serialize)]
struct BrokerGroup {
    name: String,
    /// The entry as of which the replicas hashed.
    index: u64,
    /// Whether all replicas answered the same.
    equal: bool,
    replicas: Vec<Replica>,
}

/// One replica.
#[derive(Serialize)]
struct Replica {
    id: u64,
    address: String,
    /// 128 bits, hexadecimal; null where it gave none.
    digest: Option<String>,
    /// Why it gave none.
    error: Option<String>,
}

/// Runs it.
pub async fn run(target: &Target, json: bool) -> Result<(), Failure> {
    let mut broker_groups = Vec::new();
    for known in broker_groups::known(target).await? {
        broker_groups.push(ask(&known.target, known.broker_group).await?);
    }
    let verdict = verdict(&broker_groups);
    if json {
        json_line(&Digests { broker_groups })?;
    } else {
        broker_groups.iter().try_for_each(print)?;
    }
    verdict
}

async fn ask(target: &Target, group: admin::BrokerGroup) -> Result<BrokerGroup, Failure> {
    let name = group.name;
    let request = ProposeDigestRequest {
        broker_group: name.clone(),
    };
    let proposed = target.admin().propose_digest(request).await;
    let index = proposed.map_err(target.failed("propose a digest"))?.index;
    let until = Instant::now() + limits::DIGEST_WAIT;
    let mut replicas = Vec::new();
    for replica in group.replicas {
        let (digest, error) = match read(&replica.address, &name, index, until).await {
            Ok(digest) => (Some(digest), None),
            Err(failure) => (None, Some(failure.to_string())),
        };
        let (id, address) = (replica.id, replica.address);
        replicas.push(Replica {
            id,
            address,
            digest,
            error,
        });
    }
    Ok(BrokerGroup {
        name,
        index,
        equal: replicas
            .iter()
            .all(|it| it.digest.is_some() && it.digest == replicas[0].digest),
        replicas,
    })
}

/// Asks one replica until it has hashed.
async fn read(address: &str, broker_group: &str, index: u64, until: Instant) -> Result<String, Failure> {
    let target = Target::parse(address).map_err(|error| Failure::new(Kind::Internal, error))?;
    let admin = target.admin();
    loop {
        let request = ReadDigestRequest {
            broker_group: broker_group.to_owned(),
            index,
        };
        let answer = admin
            .read_digest(request)
            .await
            .map_err(target.failed("read the digest"))?;
        if let Some(digest) = answer.digest {
            return Ok(digest);
        }
        if Instant::now() >= until {
            let message = format!("no digest as of entry {index} within {:?}", limits::DIGEST_WAIT);
            return Err(Failure::new(Kind::Unavailable, message));
        }
        sleep(limits::DIGEST_PAUSE).await;
    }
}

/// Different digests are the worst; a replica that gave none leaves it open.
fn verdict(broker_groups: &[BrokerGroup]) -> Result<(), Failure> {
    let mut silent = None;
    for group in broker_groups.iter().filter(|group| !group.equal) {
        let mut digests: Vec<&String> = group.replicas.iter().filter_map(|it| it.digest.as_ref()).collect();
        digests.dedup();
        if digests.len() > 1 {
            let message = format!(
                "the replicas of broker group {} differ as of entry {}",
                group.name, group.index
            );
            return Err(Failure::new(Kind::Refused, message));
        }
        let without = group.replicas.iter().find(|it| it.digest.is_none());
        silent = without.map(|it| format!("replica {} of broker group {} gave no digest", it.id, group.name));
    }
    match silent {
        Some(message) => Err(Failure::new(Kind::Unavailable, message)),
        None => Ok(()),
    }
}

fn print(group: &BrokerGroup) -> Result<(), Failure> {
    let word = if group.equal { "equal" } else { "not equal" };
    line_out(&format!(
        "broker group {}: {word} as of entry {}",
        group.name, group.index
    ))?;
    let mut table = Table::new(&["REPLICA", "ADDRESS", "DIGEST"]);
    for it in &group.replicas {
        let said = it.digest.as_ref().or(it.error.as_ref());
        table.row(vec![
            it.id.to_string(),
            it.address.clone(),
            said.cloned().unwrap_or_default(),
        ]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(digests: &[Option<&str>]) -> BrokerGroup {
        let replica = |(id, digest): (u64, &Option<&str>)| Replica {
            id,
            address: String::new(),
            digest: digest.map(str::to_owned),
            error: None,
        };
        let replicas: Vec<Replica> = (1..).zip(digests).map(replica).collect();
        BrokerGroup {
            name: "broker-a".to_owned(),
            index: 7,
            equal: replicas
                .iter()
                .all(|it| it.digest.is_some() && it.digest == replicas[0].digest),
            replicas,
        }
    }

    fn kind(digests: &[Option<&str>]) -> Option<Kind> {
        verdict(&[group(&[Some("a")]), group(digests)])
            .err()
            .map(|failure| failure.kind())
    }

    #[test]
    fn only_equal_answers_of_all_are_a_success() {
        assert_eq!(kind(&[Some("a"), Some("a"), Some("a")]), None);
        assert_eq!(kind(&[Some("a"), None, Some("a")]), Some(Kind::Unavailable));
        assert_eq!(kind(&[Some("a"), None, Some("b")]), Some(Kind::Refused));
        assert_eq!(kind(&[Some("a"), Some("a"), Some("b")]), Some(Kind::Refused));
    }
}
