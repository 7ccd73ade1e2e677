//! `ledgermq log dump DIR`: the entries of a log, one a line.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use ledgermq_broker::log_tools::inspect::{self, Bodies, Entry, MembershipReport, Scope, Seen};
use ledgermq_broker::log_tools::{self, CommandLine, FrameKind, LogIndex, RealDisk, ReplicaId, Value as Field};
use serde_json::{Value, json};

use super::{find, local, tell_findings, verdict, warn_if_running};
use crate::failure::Failure;
use crate::output::{json_line, line_out};

/// The flags.
#[derive(Args)]
pub struct Arguments {
    /// A data folder, a replica's folder or a log folder
    dir: PathBuf,
    /// First entry
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Entry that is not shown any more
    #[arg(long, default_value_t = u64::MAX)]
    to: u64,
    /// Entries at most
    #[arg(long, default_value_t = u64::MAX)]
    limit: u64,
    /// Show the beginnings of the messages' bodies
    #[arg(long)]
    bodies: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let found = find(&arguments.dir)?;
    warn_if_running(&found);
    let scope = Scope {
        from: LogIndex(arguments.from),
        to: LogIndex(arguments.to.min(arguments.from.saturating_add(arguments.limit))),
        bodies: Bodies::Read,
    };
    let mut printed = Ok(());
    let walked = inspect::walk(&RealDisk, &found.place.log, &scope, &mut |seen| {
        if let Seen::Entry(entry) = seen {
            printed = print(entry, &arguments);
        }
        if printed.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    let report = walked.map_err(|error| local(&found, error))?;
    printed?;
    tell_findings(&report);
    verdict(&found, &report)
}

/// What an entry says.
enum Contents {
    Blank,
    Commands(Vec<CommandLine>),
    Membership(MembershipReport),
    Unreadable(String),
}

fn contents(entry: &Entry, with_bodies: bool) -> Contents {
    let Some(body) = &entry.body else {
        return Contents::Unreadable("the body's checksum is wrong".to_owned());
    };
    let read = match entry.kind {
        FrameKind::Blank => Ok(Contents::Blank),
        FrameKind::Commands => log_tools::commands(body, with_bodies).map(Contents::Commands),
        FrameKind::Membership => inspect::membership(body).map(Contents::Membership),
    };
    read.unwrap_or_else(Contents::Unreadable)
}

fn print(entry: &Entry, arguments: &Arguments) -> Result<(), Failure> {
    let contents = contents(entry, arguments.bodies);
    if arguments.json {
        json_line(&document(entry, &contents))
    } else {
        line_out(&line(entry, &contents))
    }
}

const fn kind(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Blank => "blank",
        FrameKind::Commands => "commands",
        FrameKind::Membership => "membership",
    }
}

fn document(entry: &Entry, contents: &Contents) -> Value {
    let mut document = json!({
        "index": entry.id.index.get(),
        "term": entry.id.term.get(),
        "kind": kind(entry.kind),
        "bytes": entry.body_len,
        "crc": format!("{:08x}", entry.body_crc),
        "segment": entry.segment,
        "position": entry.position,
    });
    match contents {
        Contents::Blank => {}
        Contents::Commands(commands) => document["commands"] = json!(commands),
        Contents::Membership(membership) => {
            let set = |ids: &Vec<_>| ids.iter().map(|id: &ReplicaId| id.get()).collect();
            document["voters"] = json!(membership.voters.iter().map(set).collect::<Vec<Vec<u64>>>());
            let members = membership.members.iter().map(|member| {
                json!({
                    "id": member.id.get(),
                    "incarnation": member.incarnation.to_string(),
                    "peer_address": member.peer_address,
                    "client_address": member.client_address,
                    "voter": member.is_voter,
                })
            });
            document["members"] = members.collect();
        }
        Contents::Unreadable(reason) => document["error"] = json!(reason),
    }
    document
}

fn line(entry: &Entry, contents: &Contents) -> String {
    let Entry {
        id,
        segment,
        position,
        body_len,
        body_crc,
        ..
    } = entry;
    let head = format!(
        "{} term {} {} {body_len} bytes crc {body_crc:08x} at {segment}:{position}",
        id.index,
        id.term,
        kind(entry.kind)
    );
    let tail = match contents {
        Contents::Blank => return head,
        Contents::Commands(commands) => commands.iter().map(command_text).collect::<Vec<_>>().join("; "),
        Contents::Membership(membership) => membership_text(membership),
        Contents::Unreadable(reason) => format!("unreadable: {reason}"),
    };
    format!("{head}  {tail}")
}

fn command_text(command: &CommandLine) -> String {
    let mut text = command.kind.clone();
    for (name, value) in &command.fields {
        text.push_str(&match value {
            Field::Text(value) => format!(" {name}={}", value.escape_debug()),
            Field::Number(value) => format!(" {name}={value}"),
            Field::Flag(value) => format!(" {name}={value}"),
        });
    }
    for message in &command.messages {
        text.push_str(&format!(
            " [queue {} id {} {} bytes",
            message.queue,
            message.message_id.escape_debug(),
            message.body_bytes
        ));
        if let Some(body) = &message.body {
            text.push_str(&format!(" \"{}\"", body.escape_debug()));
        }
        text.push(']');
    }
    text
}

fn membership_text(membership: &MembershipReport) -> String {
    let sets = membership.voters.iter().map(|ids| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        format!("{{{}}}", ids.join(" "))
    });
    let members = membership.members.iter().map(|member| {
        let learner = if member.is_voter { "" } else { " learner" };
        format!(
            "{}={}={}{learner}",
            member.id, member.peer_address, member.client_address
        )
    });
    let (sets, members): (Vec<String>, Vec<String>) = (sets.collect(), members.collect());
    format!("voters {} members {}", sets.join(" and "), members.join(", "))
}
