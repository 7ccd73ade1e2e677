//! What a producer and a consumer share: the routes of their topics and the tasks behind them.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
};

use ledgermq_proto::rocketmq::{Code, QueryRouteRequest};
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    calls::Calls,
    door::{Doors, Stub},
    error::Error,
    limits,
    options::Options,
    route::{Route, Topic, Topics},
    session::{Role, Sessions},
};

/// Shared by the handles and the tasks of one client.
pub(crate) struct Client {
    pub(crate) calls: Arc<Calls>,
    topics: Topics,
    sessions: Sessions,
    access_points: Doors,
    upkeep: Mutex<Option<AbortHandle>>,
}

impl Client {
    /// Checks the options and starts the upkeep of routes. Must be called inside a tokio runtime.
    pub(crate) fn start(options: Options, role: Role) -> Result<Arc<Self>, Error> {
        let calls = Calls::new(options)?;
        let client = Arc::new(Self {
            access_points: calls.book.access_points()?,
            topics: Topics::new(calls.identity.start()),
            sessions: Sessions::new(calls.clone(), role),
            calls,
            upkeep: Mutex::default(),
        });
        let task = tokio::spawn(keep_routes(client.clone()));
        *client.upkeep.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        Ok(client)
    }

    /// Tells the servers that this client ends, and ends it.
    pub(crate) async fn shutdown(&self) {
        self.sessions.farewell().await;
        self.close();
    }

    /// Ends every task; calls fail from now on.
    pub(crate) fn close(&self) {
        self.calls.close();
        self.sessions.end();
        if let Some(task) = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    /// The topic with its route, asked when it is not known yet.
    pub(crate) async fn route(&self, name: &str) -> Result<(Arc<Topic>, Arc<Route>), Error> {
        let topic = self.topics.topic(name)?;
        if let Some(route) = topic.route() {
            return Ok((topic, route));
        }
        let options = &self.calls.options;
        let longest = options.attempt_timeout.saturating_mul(options.attempts_max);
        let Ok(asking) = timeout(longest, topic.asking.lock()).await else {
            return Err(Error::Unanswered {
                code: tonic::Code::DeadlineExceeded,
                message: format!("no route within {} ms", longest.as_millis()),
                topic: name.to_owned(),
                unknown: false,
            });
        };
        if let Some(route) = topic.route() {
            drop(asking);
            return Ok((topic, route));
        }
        let route = self.ask_route(name).await?;
        topic.put(Some(route.clone()));
        drop(asking);
        self.sessions.keep(&self.topics.routed());
        Ok((topic, route))
    }

    /// Asks again; keeps the old route when nobody answers, forgets it when the topic is gone. Breaks where nobody answers:
    /// the next topic would wait as long.
    async fn refresh(&self, topic: &Topic) -> ControlFlow<()> {
        let _asking = topic.asking.lock().await;
        match self.ask_route(&topic.name).await {
            Ok(route) => topic.put(Some(route)),
            Err(Error::Refused {
                code: Code::TopicNotFound,
                ..
            }) => topic.put(None),
            Err(error) => {
                tracing::debug!(topic = topic.name, %error, "route not refreshed");
                if matches!(error, Error::Unanswered { .. }) {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    async fn ask_route(&self, topic: &str) -> Result<Arc<Route>, Error> {
        let deadline = self.calls.options.attempt_timeout;
        let question = QueryRouteRequest {
            topic: Some(self.calls.resource(topic)),
            endpoints: Some(self.calls.access_point()),
        };
        let ask = |mut stub: Stub| {
            let request = self.calls.request(question.clone(), deadline);
            async move { stub.query_route(request).await }
        };
        let first = self.calls.attempt(topic, &self.access_points, deadline, ask).await;
        let reply = match (first, self.topics.topic(topic)?.route()) {
            // No access point answers: perhaps one of the doors of the old route does.
            (Err(Error::Unanswered { .. }), Some(old)) if !old.queues().is_empty() => {
                self.calls.attempt(topic, &old.queues()[0].doors, deadline, ask).await?
            }
            (first, _) => first?,
        };
        Ok(Arc::new(Route::new(
            topic,
            &self.calls.book,
            reply.into_inner().message_queues,
        )?))
    }
}

/// Refreshes all routes on a beat, and soon after an error.
async fn keep_routes(client: Arc<Client>) {
    loop {
        tokio::select! {
            biased;
            () = client.calls.failed() => {}
            () = sleep(limits::ROUTE_REFRESH) => {}
        }
        for topic in client.topics.routed() {
            if client.refresh(&topic).await.is_break() {
                break;
            }
        }
        client.sessions.keep(&client.topics.routed());
        client.calls.book.forget_unused();
        sleep(limits::ROUTE_REFRESH_MIN).await;
    }
}
