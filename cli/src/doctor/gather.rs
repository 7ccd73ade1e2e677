//! Asks every replica and every name server that it can find, all at once. Who answers names others, which are asked as
//! well. Nobody costs more than [`limits::DOCTOR_ANSWER_WAIT`], and all of it ends after [`limits::DOCTOR_WAIT`].

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use ledgermq_client::Admin;
use ledgermq_proto::admin::ReportHealthRequest;
use ledgermq_proto::net::{ChannelOptions, Net, channel};
use ledgermq_proto::registry::registry_client::RegistryClient;
use ledgermq_proto::registry::{ListRoutesRequest, Routes};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Status};

use super::survey::{Answer, Report, Survey};
use crate::limits;

/// One answer.
enum Heard {
    Replica(String, Result<Box<Report>, Status>),
    NameServer(String, Result<Routes, Status>),
}

struct Gathering {
    net: Arc<dyn Net>,
    /// What was asked already: whether a name server, and the address.
    asked: BTreeSet<(bool, String)>,
    under_way: FuturesUnordered<BoxFuture<'static, Heard>>,
    /// Nobody new is asked after this.
    until: Instant,
}

/// Asks these replicas, and all that they lead to.
pub async fn gather(net: Arc<dyn Net>, endpoints: &[String]) -> Survey {
    let start = Instant::now();
    let mut gathering = Gathering {
        net,
        asked: BTreeSet::new(),
        under_way: FuturesUnordered::new(),
        until: start + limits::DOCTOR_WAIT - limits::DOCTOR_ANSWER_WAIT,
    };
    for address in endpoints {
        gathering.ask(false, address);
    }
    let mut survey = Survey::default();
    loop {
        let heard = tokio::select! {
            biased;
            heard = gathering.under_way.next() => heard,
            () = sleep_until(start + limits::DOCTOR_WAIT) => None,
        };
        let Some(heard) = heard else { break };
        match heard {
            Heard::Replica(address, Ok(report)) => {
                gathering.follow(&report);
                survey.answers.push(Answer {
                    address,
                    report: *report,
                });
            }
            Heard::Replica(address, Err(status)) => {
                survey.silent.insert(address, why(&status));
            }
            Heard::NameServer(address, Ok(routes)) => {
                for replica in routes.broker_groups.iter().flat_map(|group| &group.replicas) {
                    gathering.ask(false, &replica.client_address);
                }
                survey.name_servers.insert(address, Ok(routes));
            }
            Heard::NameServer(address, Err(status)) => {
                survey.name_servers.insert(address, Err(why(&status)));
            }
        }
    }
    // In an order that does not depend on who was faster.
    survey.answers.sort_by(|a, b| {
        let place = |it: &Answer| (it.report.broker_group.clone(), it.report.replica, it.address.clone());
        place(a).cmp(&place(b))
    });
    survey
}

impl Gathering {
    /// Those whom a report names.
    fn follow(&mut self, report: &Report) {
        for member in &report.members {
            self.ask(false, &member.client_address);
        }
        for other in &report.others {
            self.ask(false, &other.client_address);
        }
        for server in &report.name_servers {
            self.ask(true, &server.address);
        }
    }

    fn ask(&mut self, is_name_server: bool, address: &str) {
        let is_late = Instant::now() > self.until || self.asked.len() >= limits::DOCTOR_ADDRESSES_MAX;
        if is_late || !self.asked.insert((is_name_server, address.to_owned())) {
            return;
        }
        let (net, address) = (Arc::clone(&self.net), address.to_owned());
        self.under_way.push(match is_name_server {
            true => async move {
                let answer = in_time(routes(&net, &address)).await;
                Heard::NameServer(address, answer)
            }
            .boxed(),
            false => async move {
                let admin = Admin::new(&net, std::slice::from_ref(&address));
                let answer = in_time(admin.report_health(ReportHealthRequest {})).await;
                Heard::Replica(address, answer.map(Box::new))
            }
            .boxed(),
        });
    }
}

async fn routes(net: &Arc<dyn Net>, address: &str) -> Result<Routes, Status> {
    let channel = channel(Arc::clone(net), address, ChannelOptions::default());
    let mut client = RegistryClient::new(channel).max_decoding_message_size(limits::DOCTOR_ROUTES_BYTES_MAX);
    client
        .list_routes(ListRoutesRequest {})
        .await
        .map(tonic::Response::into_inner)
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match timeout(limits::DOCTOR_ANSWER_WAIT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {} ms",
            limits::DOCTOR_ANSWER_WAIT.as_millis()
        ))),
    }
}

/// Why there is no report, in words: what is below "transport error" is what matters.
fn why(status: &Status) -> String {
    if status.code() == Code::Unimplemented {
        return "it runs a version without health reports".to_owned();
    }
    let mut deepest: Option<&dyn Error> = status.source();
    while let Some(below) = deepest.and_then(Error::source) {
        deepest = Some(below);
    }
    deepest.map_or_else(|| status.message().to_owned(), ToString::to_string)
}
