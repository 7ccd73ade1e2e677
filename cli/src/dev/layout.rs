//! Ports and configuration files of a development cluster.
//!
//! Every address is chosen before anything starts and written into one file a replica, so that
//! `ledgermq broker --config <file>` starts the same replica again. A folder that has the files already keeps them:
//! its log knows its peers by those addresses.

use crate::clock::fresh_seed;
use crate::failure::{Failure, Kind};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// What the flags ask for.
pub struct Wanted {
    /// Replicas of each broker group.
    pub replicas: u64,
    /// Broker groups.
    pub broker_groups: u64,
    /// The first access point's port; 0 for free ones.
    pub port: u16,
}

/// A prepared cluster: all addresses chosen, all files written.
pub struct Layout {
    /// Where the name server listens.
    pub name_server: String,
    /// All replicas, by broker group and number.
    pub replicas: Vec<ReplicaLayout>,
}

/// One replica of it.
#[derive(Clone, Debug)]
pub struct ReplicaLayout {
    /// Its broker group: broker-a, broker-b, …
    pub broker_group: String,
    /// Its number, from 1.
    pub id: u64,
    /// Its access point.
    pub listen: String,
    /// Where the other replicas reach it.
    pub peer_listen: String,
    /// Its configuration file.
    pub config: PathBuf,
}

impl Layout {
    /// Chooses addresses and writes the files, or takes the files that are there.
    pub fn prepare(folder: &Path, wanted: &Wanted) -> Result<Layout, Failure> {
        let members = members(wanted);
        let written = members.iter().filter(|(_, _, file)| folder.join(file).exists()).count();
        if written == members.len() {
            return Layout::from_files(folder, &members);
        }
        if written > 0 {
            let message = format!(
                "{} was made for another number of replicas or broker groups",
                folder.display()
            );
            return Err(Failure::new(Kind::Refused, message));
        }
        let mut ports = Ports::default();
        // The ports that the user asked for come first, so that no other is chosen among them.
        let mut listens = Vec::new();
        for (_, nth) in members.iter().zip(0u16..) {
            listens.push(address(match wanted.port {
                0 => ports.free()?,
                first => ports.consecutive(first, nth)?,
            }));
        }
        let name_server = address(ports.free()?);
        let mut replicas = Vec::new();
        for ((broker_group, id, file), listen) in members.into_iter().zip(listens) {
            let (peer_listen, config) = (address(ports.free()?), folder.join(file));
            replicas.push(ReplicaLayout {
                broker_group,
                id,
                listen,
                peer_listen,
                config,
            });
        }
        for replica in &replicas {
            let text = config_text(replica, &name_server, folder);
            std::fs::write(&replica.config, text).map_err(|error| Failure::local(replica.config.display(), error))?;
        }
        Ok(Layout { name_server, replicas })
    }

    /// Reads back what an earlier run wrote.
    fn from_files(folder: &Path, members: &[(String, u64, String)]) -> Result<Layout, Failure> {
        let mut name_server = String::new();
        let mut replicas = Vec::new();
        for (broker_group, id, file) in members {
            let config = folder.join(file);
            let text = std::fs::read_to_string(&config).map_err(|error| Failure::local(config.display(), error))?;
            let table: toml::Table = toml::from_str(&text)
                .map_err(|error| Failure::new(Kind::Refused, format!("{}: {error}", config.display())))?;
            let key = |name: &str| {
                let value = table.get(name).and_then(|value| match value {
                    toml::Value::Array(values) => values.first().and_then(toml::Value::as_str),
                    other => other.as_str(),
                });
                value
                    .map(str::to_owned)
                    .ok_or_else(|| Failure::new(Kind::Refused, format!("{}: key {name} is missing", config.display())))
            };
            name_server = key("name_servers")?;
            replicas.push(ReplicaLayout {
                broker_group: broker_group.clone(),
                id: *id,
                listen: key("listen")?,
                peer_listen: key("peer_listen")?,
                config: config.clone(),
            });
        }
        Ok(Layout { name_server, replicas })
    }
}

impl ReplicaLayout {
    /// `<broker group>/<id>`, as logs and output name it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.broker_group, self.id)
    }
}

/// Broker group, number and file name of every replica.
fn members(wanted: &Wanted) -> Vec<(String, u64, String)> {
    let names = ('a'..='z').map(|letter| format!("broker-{letter}"));
    let groups = names.zip(0..wanted.broker_groups);
    groups
        .flat_map(|(name, _)| (1..=wanted.replicas).map(move |id| (name.clone(), id, format!("{name}-{id}.toml"))))
        .collect()
}

fn config_text(replica: &ReplicaLayout, name_server: &str, folder: &Path) -> String {
    let data_dir = folder
        .join(format!("{}-{}", replica.broker_group, replica.id))
        .display()
        .to_string();
    let mut table = toml::Table::new();
    let mut put = |key: &str, value: toml::Value| table.insert(key.to_owned(), value);
    put("broker_group", replica.broker_group.clone().into());
    put(
        "replica_id",
        toml::Value::Integer(replica.id.try_into().unwrap_or(i64::MAX)),
    );
    put("listen", replica.listen.clone().into());
    put("peer_listen", replica.peer_listen.clone().into());
    put("data_dir", data_dir.into());
    // The machines of developers are fuller than servers, and have enough room all the same.
    put("disk_full_percent", 98.into());
    put("name_servers", vec![name_server.to_owned()].into());
    format!(
        "# One replica of a development cluster; start it again with: ledgermq broker --config <this file>\n{table}"
    )
}

fn address(port: u16) -> String {
    format!("{}:{port}", Ipv4Addr::LOCALHOST)
}

/// The first port that is chosen by itself.
const PORT_MIN: u16 = 15_000;
/// How many ports are tried.
const PORT_TRIES: usize = 1_000;

/// The first port that the kernel gives to outgoing connections.
fn first_outgoing_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(32_768)
}

/// Ports that are free now. Held open until all are chosen, so that none is chosen twice.
#[derive(Default)]
struct Ports {
    held: Vec<TcpListener>,
    taken: BTreeSet<u16>,
}

impl Ports {
    /// Any free port, below those that the kernel gives to outgoing connections: else a connection (even one that tries to
    /// reach a dead replica, from that replica's own port) could take it while the replica is down.
    fn free(&mut self) -> Result<u16, Failure> {
        let span = u64::from(first_outgoing_port().saturating_sub(PORT_MIN));
        for _ in 0..PORT_TRIES {
            let offset = fresh_seed()
                .checked_rem(span)
                .and_then(|offset| u16::try_from(offset).ok());
            match offset.map(|offset| self.hold(PORT_MIN + offset)) {
                Some(Ok(port)) => return Ok(port),
                Some(Err(_)) => {}
                None => break,
            }
        }
        self.hold(0)
    }

    /// The nth port from `first`.
    fn consecutive(&mut self, first: u16, nth: u16) -> Result<u16, Failure> {
        match first.checked_add(nth) {
            Some(port) => self.hold(port),
            None => Err(Failure::new(Kind::Refused, format!("port {first} + {nth} is no port"))),
        }
    }

    fn hold(&mut self, port: u16) -> Result<u16, Failure> {
        let failed = |error| Failure::local(format_args!("port {port}"), error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        assert!(self.taken.insert(port), "a held port is never given twice");
        self.held.push(listener);
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use super::{Layout, Wanted};
    use std::collections::BTreeSet;

    #[test]
    fn all_addresses_differ_and_are_found_again() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let wanted = Wanted {
            replicas: 3,
            broker_groups: 2,
            port: 0,
        };
        let first = Layout::prepare(folder.path(), &wanted).expect("prepared");
        let mut addresses: BTreeSet<String> = BTreeSet::from([first.name_server.clone()]);
        for replica in &first.replicas {
            assert!(addresses.insert(replica.listen.clone()) && addresses.insert(replica.peer_listen.clone()));
        }
        let again = Layout::prepare(folder.path(), &wanted).expect("prepared again");
        assert_eq!(format!("{:?}", first.replicas), format!("{:?}", again.replicas));
        assert_eq!(first.name_server, again.name_server);
    }

    #[test]
    fn another_shape_in_the_same_folder_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        Layout::prepare(
            folder.path(),
            &Wanted {
                replicas: 1,
                broker_groups: 1,
                port: 0,
            },
        )
        .expect("prepared");
        assert!(
            Layout::prepare(
                folder.path(),
                &Wanted {
                    replicas: 3,
                    broker_groups: 1,
                    port: 0
                }
            )
            .is_err()
        );
    }
}
