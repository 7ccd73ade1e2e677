//! The faults of a run as an explicit list. A fault names its target by role where that matters (the leader of the
//! moment); everything else is decided before the run ([`draw`]).

mod draw;
mod weights;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::draw::plan;

/// Whom a fault hits. Machines are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The machine whose replica leads the first broker group when the fault begins; nobody, if none leads.
    Leader,
    /// The same of another broker group, counted from 0.
    LeaderOf(usize),
    /// This machine.
    Replica(usize),
}

/// Which bytes rot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rot {
    /// In the older half of a segment of the log.
    Log,
    /// In the vote.
    Vote,
    /// In any file of the replica's folder.
    Any,
}

/// What a replica may be in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// It begins to install a snapshot.
    Installation,
    /// It has installed a snapshot.
    Installed,
    /// It takes back entries of its log.
    Truncation,
    /// It has forgotten entries of its log.
    Purge,
    /// Its log goes on in a new segment.
    Roll,
    /// Its membership has changed.
    Membership,
    /// It carries records over a retention cut.
    CarryOver,
}

impl Moment {
    /// All of them.
    pub const ALL: [Moment; 7] = [
        Moment::Installation,
        Moment::Installed,
        Moment::Truncation,
        Moment::Purge,
        Moment::Roll,
        Moment::Membership,
        Moment::CarryOver,
    ];

    /// The mark by which it is noticed.
    pub const fn mark(self) -> &'static str {
        match self {
            Moment::Installation => "install_begun",
            Moment::Installed => "install_ended",
            Moment::Truncation => "log_truncated",
            Moment::Purge => "log_purged",
            Moment::Roll => "segment_rolled",
            Moment::Membership => "membership_changed",
            Moment::CarryOver => "carry_over",
        }
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The process dies (SIGKILL): memory is gone, the kernel keeps what was written.
    Kill(Target),
    /// The machine loses power: memory and what was written but not synced are gone; the others hear nothing.
    PowerLoss(Target),
    /// All machines lose power at once, and get it back at once.
    Blackout,
    /// The first time that a replica is in the middle of this, all machines lose power so many milliseconds later, and get it
    /// back soon. Nothing happens where none comes to it in time.
    Ambush(Moment, u64),
    /// All machines die within a moment and come back one by one, in an order that follows from this number.
    AllDown(u64),
    /// The process dies again and again, soon after each start.
    CrashLoop(Target),
    /// The machine loses power until the others have forgotten what it would need next, or for 25 s.
    Outage(Target),
    /// The process stands still. Played by holding back what it sends and gets: nobody hears it and it hears nobody, then
    /// everything arrives. Its own timers go on, which is the one difference to a frozen process.
    Pause(Target),
    /// The replicas of a broker group are stopped in good order and started again, one after another.
    RollingRestart(usize),
    /// The machine loses its disk. The operator replaces the replica under a new number.
    Wipe(Target),
    /// The target hears no other replica, and no other replica hears it; clients still reach it.
    Isolate(Target),
    /// The target is cut off from everything, clients included.
    CutOff(Target),
    /// What the target sends to the other replicas is lost; what they send arrives.
    Mute(Target),
    /// What the other replicas send to the target is lost; what it sends arrives.
    Deafen(Target),
    /// Two machines don't hear each other.
    Split(usize, usize),
    /// The machines of the target's broker group fall into two halves that hear each other only through the target.
    Bridge(Target),
    /// The largest minority of the target's broker group, the target in it, is cut off from the other machines.
    Minority(Target),
    /// What two machines send each other is held back and then delivered.
    Hold(usize, usize),
    /// What the target sends and gets takes up to so many milliseconds.
    Slow(Target, u64),
    /// All connections of the target are reset.
    Reset(Target),
    /// No client and no operator reaches the target.
    ClientsCut(Target),
    /// Nobody reaches this name server.
    NameServerCut(usize),
    /// The target's next write to its log's disk fails.
    FailWrite(Target),
    /// The target's next sync fails, and what it should have made durable is lost.
    FailSync(Target),
    /// The target's disk is full.
    NoSpace(Target),
    /// All disks are full.
    NoSpaceAnywhere,
    /// Syncs of the target take up to so many milliseconds.
    SlowSync(Target, u64),
    /// The target dies, and a bit on its disk flips before it starts; where follows from the number. Left out where the
    /// other replicas would not have a copy of everything.
    Flip(Target, Rot, u64),
    /// The target's wall clock jumps by so many milliseconds, and gains so many millionths. Left out where a majority
    /// of clocks would not be right.
    Clock(Target, i64, i64),
    /// The operator hands the leadership to this machine's replica.
    Transfer(usize),
    /// The operator adds a replica, and takes one out at the end.
    Grow(usize),
    /// The operator takes a replica out, and adds one at the end.
    Shrink(usize),
    /// The operator replaces a replica that lives.
    Swap(Target),
    /// A topic is made, and removed at the end.
    Topic(u64),
}

impl Fault {
    /// The one machine that it hits, if it hits one.
    pub fn target(self) -> Option<Target> {
        match self {
            Fault::Kill(target)
            | Fault::PowerLoss(target)
            | Fault::CrashLoop(target)
            | Fault::Outage(target)
            | Fault::Pause(target)
            | Fault::Wipe(target)
            | Fault::Isolate(target)
            | Fault::CutOff(target)
            | Fault::Mute(target)
            | Fault::Deafen(target)
            | Fault::Bridge(target)
            | Fault::Minority(target)
            | Fault::Slow(target, _)
            | Fault::Reset(target)
            | Fault::ClientsCut(target)
            | Fault::FailWrite(target)
            | Fault::FailSync(target)
            | Fault::NoSpace(target)
            | Fault::SlowSync(target, _)
            | Fault::Flip(target, ..)
            | Fault::Clock(target, ..)
            | Fault::Swap(target) => Some(target),
            Fault::Blackout
            | Fault::Ambush(..)
            | Fault::AllDown(_)
            | Fault::RollingRestart(_)
            | Fault::Split(..)
            | Fault::Hold(..)
            | Fault::NameServerCut(_)
            | Fault::NoSpaceAnywhere
            | Fault::Transfer(_)
            | Fault::Grow(_)
            | Fault::Shrink(_)
            | Fault::Topic(_) => None,
        }
    }
}

/// A fault with its begin and its length, in simulated milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// When it begins.
    pub at_ms: u64,
    /// How long until it is healed.
    pub for_ms: u64,
    /// What happens.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} ms for {} ms: {:?}", self.at_ms, self.for_ms, self.fault)
    }
}
