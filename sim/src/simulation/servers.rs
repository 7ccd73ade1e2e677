//! The cluster of a user's simulation, and the host that makes its topics.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ledgermq_client::Admin;
use ledgermq_proto::{
    admin::{CreateTopicRequest, DescribeClusterRequest},
    net::Net,
};
use tonic::Status;

use super::Topic;
use crate::{
    board::Board,
    chaos::Stage,
    cluster::{options::Drawn, servers},
    layout::Layout,
    net::SimNet,
    seed::Seed,
    trace::Trace,
};

/// What serves.
pub(super) struct Servers {
    /// The hosts so far; the machines of replicas come first.
    pub stage: Stage<'static>,
    /// The brokers' addresses.
    pub endpoints: Vec<String>,
    /// How far the making of topics is.
    pub ready: Ready,
}

/// Whether broker groups serve and topics are made. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Ready(Arc<Mutex<Progress>>);

#[derive(Default)]
struct Progress {
    done: bool,
    /// What was tried last, and why it failed.
    last: String,
}

impl Ready {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether they are.
    pub fn is_done(&self) -> bool {
        self.progress().done
    }

    /// What is missing, `None` when nothing is.
    pub fn missing(&self) -> Option<String> {
        let progress = self.progress();
        let missing = || format!("applications never started: {}", progress.last);
        (!progress.done).then(missing)
    }
}

/// Puts the cluster on the stage.
pub(super) fn servers(
    seed: Seed,
    cluster: (&Layout, &[String]),
    topics: Vec<Topic>,
    board: &Board,
    trace: &Trace,
) -> Servers {
    // Nothing that a user sent is let go of while he looks: that is not what his checks are about.
    let drawn = Drawn {
        retention_bytes: 0,
        ..Drawn::draw(&mut seed.stream("options"))
    };
    let (mut stage, endpoints, _witness) = servers::servers(seed, cluster, &drawn, board, trace);
    let ready = Ready::default();
    let setup = Setup {
        endpoints: endpoints.clone(),
        broker_groups: cluster.1.to_vec(),
        topics,
        ready: ready.clone(),
        trace: trace.clone(),
    };
    stage.hosts.push(SETUP.to_owned());
    stage.sim.host(SETUP, move || setup.clone().work());
    Servers {
        stage,
        endpoints,
        ready,
    }
}

/// The host that makes topics.
pub(super) const SETUP: &str = "setup";

/// Waits for every broker group to have a leader, then makes the topics; what fails is tried again.
#[derive(Clone)]
struct Setup {
    endpoints: Vec<String>,
    broker_groups: Vec<String>,
    topics: Vec<Topic>,
    ready: Ready,
    trace: Trace,
}

impl Setup {
    async fn work(self) -> turmoil::Result {
        let net: Arc<dyn Net> = Arc::new(SimNet);
        let admin = Admin::new(&net, &self.endpoints);
        self.until_done("leaders", || self.all_lead(&admin)).await;
        for topic in &self.topics {
            let request = CreateTopicRequest {
                name: topic.name.clone(),
                r#type: topic.kind.to_owned(),
                queues: topic.queues,
            };
            let what = format!("topic {}", topic.name);
            self.until_done(&what, || admin.create_topic(request.clone())).await;
        }
        self.ready.progress().done = true;
        self.trace.tell(SETUP, "broker groups and topics are ready");
        Ok(())
    }

    async fn all_lead(&self, admin: &Admin) -> Result<(), Status> {
        let told = admin.describe_cluster(DescribeClusterRequest {}).await?.broker_groups;
        let leads = |name: &String| told.iter().any(|group| group.name == *name && group.leader.is_some());
        match self.broker_groups.iter().find(|name| !leads(name)) {
            Some(name) => Err(Status::unavailable(format!("nobody leads {name}"))),
            None => Ok(()),
        }
    }

    /// Calls until it took effect; that it was done before is as good.
    async fn until_done<T, F>(&self, what: &str, call: impl Fn() -> F)
    where
        F: Future<Output = Result<T, Status>>,
    {
        const PAUSE: Duration = Duration::from_millis(200);
        loop {
            match call().await {
                Ok(_) => return self.trace.event(SETUP, format!("{what}: done")),
                Err(status) if status.code() == tonic::Code::AlreadyExists => {
                    return self.trace.event(SETUP, format!("{what}: done before"));
                }
                Err(status) => {
                    let failed = format!("{what}: {}", status.message());
                    self.trace.event(SETUP, &failed);
                    self.ready.progress().last = failed;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ready;

    #[test]
    fn why_nothing_starts_is_told() {
        let ready = Ready::default();
        ready.progress().last = "leaders: nobody leads broker-a".to_owned();
        let missing = ready.missing().expect("not ready");
        assert!(
            missing.ends_with("never started: leaders: nobody leads broker-a"),
            "{missing}"
        );
        ready.progress().done = true;
        assert!(ready.is_done() && ready.missing().is_none());
    }
}
