//! What a run draws of the configuration: sizes and times far from the usual ones, so that a minute is enough for
//! segments to roll and to be recycled, for cuts, snapshots and installations.

use std::time::Duration;

use ledgermq_broker::{
    Tuning,
    state::{level::FORMAT_LEVEL, machine::Settings},
};

use crate::{plant::Plant, seed::Draws};

/// The configuration of all brokers of a run.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Keys of broker.toml.
    pub settings: String,
    /// Size of a segment, bytes.
    pub segment_bytes: u64,
    /// Bytes of finished segments that are kept; 0 for no bound.
    pub retention_bytes: u64,
    /// Housekeeping.
    pub tuning: Tuning,
    /// The format level that each machine supports until its first restart, if it is one of the first; 0 for the newest. So some
    /// runs begin with a cluster of several releases, and go over to the newest one after the other.
    pub first_levels: [u32; MACHINES],
    /// Whether the state lies in RocksDB.
    pub rocks: bool,
    /// A bug on purpose.
    pub plant: Plant,
}

/// Machines whose first release is drawn.
const MACHINES: usize = 8;

/// Heartbeat, election_min, election_max, silence, in milliseconds.
const TIMINGS: &[[u64; 4]] = &[
    [100, 400, 700, 250],
    [100, 400, 700, 250],
    [50, 200, 400, 110],
    [200, 900, 1_400, 450],
    [100, 1_000, 2_000, 900],
];

impl Drawn {
    /// Draws it.
    pub fn draw(options: &mut Draws) -> Drawn {
        let segment_bytes = options.pick(&[64 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20]);
        let segments_kept = options.pick(&[0, 0, 1, 2, 8]);
        let [heartbeat, min, max, silence] = options.pick(TIMINGS);
        let tail_cache = options.pick(&[1 << 20, 1 << 20, 8 << 20]);
        let in_flight = options.pick(&[1 << 20, 4 << 20, 32 << 20]);
        let tuning = Tuning {
            state: Settings {
                cached_records: options.pick(&[64, 4_096, 131_072]),
                ..Settings::default()
            },
            flush_check: Duration::from_millis(options.pick(&[100, 300, 1_000])),
            flush_bytes: options.pick(&[16 << 10, 256 << 10, 128 << 20]),
            flush_interval: Duration::from_millis(options.pick(&[1_000, 5_000, 30_000])),
            retention_check: Duration::from_millis(options.pick(&[500, 2_000, 10_000])),
        };
        let mixed = options.percent(25);
        let first_levels = std::array::from_fn(|_| options.between(0, u64::from(FORMAT_LEVEL) - 1) as u32);
        Drawn {
            settings: format!(
                "tail_cache_bytes = {tail_cache}\nin_flight_bytes = {in_flight}\nheartbeat_ms = {heartbeat}\n\
                 election_min_ms = {min}\nelection_max_ms = {max}\nsilence_ms = {silence}"
            ),
            segment_bytes,
            retention_bytes: segment_bytes * segments_kept,
            tuning,
            first_levels: if mixed { first_levels } else { [0; MACHINES] },
            rocks: options.percent(10),
            plant: Plant::default(),
        }
    }

    /// What an operator has who changed nothing but the size of segments.
    pub fn usual() -> Drawn {
        Drawn {
            settings: "tail_cache_bytes = 8388608".to_owned(),
            segment_bytes: 4 << 20,
            retention_bytes: 0,
            tuning: Tuning::default(),
            first_levels: [0; MACHINES],
            rocks: false,
            plant: Plant::default(),
        }
    }

    /// Whether a replica begins as a release that does not support this format level.
    pub fn begins_below(&self, level: u32) -> bool {
        self.first_levels.iter().any(|first| *first != 0 && *first < level)
    }

    /// One line for the story.
    pub fn story(&self) -> String {
        let Tuning {
            state,
            flush_check,
            flush_bytes,
            flush_interval,
            retention_check,
        } = self.tuning;
        format!(
            "segment_bytes = {} retention_bytes = {} {} cached_records = {} flush every {flush_check:?} after \
             {flush_bytes} bytes or {flush_interval:?} retention every {retention_check:?} state in {}{}",
            self.segment_bytes,
            self.retention_bytes,
            self.settings.replace('\n', " "),
            state.cached_records,
            if self.rocks { "RocksDB" } else { "memory" },
            if self.first_levels == [0; MACHINES] {
                ""
            } else {
                ", releases mixed"
            },
        )
    }
}
