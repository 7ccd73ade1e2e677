//! What apply hints to the shell. A hint may be lost or be wrong: who acts on it looks at the state first.

/// Takes the hints. Called on the apply path, outside of any lock; must not block.
pub trait Effects: Send + Sync + 'static {
    /// Messages arrived in a topic.
    fn arrived(&self, topic: &str);
    /// Something of a topic becomes visible for a consumer group at this log time (0 = now).
    fn visible_at(&self, topic: &str, consumer_group: &str, at_ms: u64);
    /// Topics were created or deleted.
    fn topics_changed(&self);
}

/// Takes no hint.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEffects;

impl Effects for NoEffects {
    fn arrived(&self, _topic: &str) {}
    fn visible_at(&self, _topic: &str, _consumer_group: &str, _at_ms: u64) {}
    fn topics_changed(&self) {}
}
