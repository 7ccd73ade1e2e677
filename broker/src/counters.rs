//! What the verbs count, for Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
/// Labels of what belongs to a topic.
pub struct Topic {
    /// Its name.
    pub topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
/// Labels of what belongs to a consumer group on a topic.
pub struct Consumption {
    /// The topic's name.
    pub topic: String,
    /// The consumer group's name.
    pub consumer_group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
/// Labels of what is running.
pub struct Build {
    /// Of the program.
    pub version: String,
    /// The format level of its state.
    pub format_level: u32,
}

/// Counters of the verbs.
#[derive(Clone, Default)]
pub struct Metrics {
    pub(crate) messages_in: Family<Topic, Counter>,
    pub(crate) messages_out: Family<Consumption, Counter>,
}

impl Metrics {
    /// Messages were stored.
    pub fn messages_in(&self, topic: &str, count: usize) {
        self.messages_in
            .get_or_create(&Topic {
                topic: topic.to_owned(),
            })
            .inc_by(count as u64);
    }

    /// Messages were handed out.
    pub fn messages_out(&self, topic: &str, consumer_group: &str, count: usize) {
        let labels = Consumption {
            topic: topic.to_owned(),
            consumer_group: consumer_group.to_owned(),
        };
        self.messages_out.get_or_create(&labels).inc_by(count as u64);
    }
}
