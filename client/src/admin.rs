//! The calls of `ledgermq.admin.v1`, typed. Any replica takes them: the endpoints are asked in turn until one answers.

use std::{future::Future, sync::Arc};

use ledgermq_proto::{
    admin::{self as wire, admin_client::AdminClient},
    net::{ChannelOptions, Net, channel},
};
use tokio::time::timeout;
use tonic::{Request, Response, Status, transport::Channel};

use crate::limits;

/// Connections to the endpoints; cheap to clone.
#[derive(Clone)]
pub struct Admin {
    endpoints: Vec<AdminClient<Channel>>,
}

impl Admin {
    /// Connects at the first call. Must be called inside a tokio runtime.
    pub fn new(net: &Arc<dyn Net>, endpoints: &[String]) -> Self {
        let connect = |authority: &String| {
            let channel = channel(net.clone(), authority, ChannelOptions::default());
            AdminClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX)
        };
        Self {
            endpoints: endpoints.iter().map(connect).collect(),
        }
    }

    /// An endpoint that cannot be reached or does not answer in time is passed over; any other answer is final. A call
    /// that was passed over may have taken effect.
    async fn ask<Q, A, F, R>(&self, question: Q, call: F) -> Result<A, Status>
    where
        Q: Clone,
        F: Fn(AdminClient<Channel>, Request<Q>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let mut last = Status::unavailable("no endpoint");
        for client in &self.endpoints {
            let mut request = Request::new(question.clone());
            request.set_timeout(limits::ATTEMPT_TIMEOUT);
            match timeout(limits::ATTEMPT_TIMEOUT, call(client.clone(), request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if passed_over(&status) => last = status,
                Ok(Err(status)) => return Err(status),
                Err(_) => last = Status::deadline_exceeded("no answer in time"),
            }
        }
        Err(last)
    }
}

fn passed_over(status: &Status) -> bool {
    use tonic::Code::{Cancelled, DeadlineExceeded, Unavailable};
    matches!(status.code(), Cancelled | DeadlineExceeded | Unavailable)
}

macro_rules! calls {
    ($($(#[$doc:meta])* $verb:ident: $question:ident => $answer:ident;)*) => {
        impl Admin {
            $($(#[$doc])*
            pub async fn $verb(&self, question: wire::$question) -> Result<wire::$answer, Status> {
                self.ask(question, |mut client, request| async move { client.$verb(request).await }).await
            })*
        }
    };
}

calls! {
    /// The replicas of every broker group that the asked broker knows, as their leader sees them.
    describe_cluster: DescribeClusterRequest => DescribeClusterResponse;
    /// Gives a broker group its first membership, once.
    bootstrap: BootstrapRequest => BootstrapResponse;
    /// Hands leadership to another voter.
    transfer_leader: TransferLeaderRequest => TransferLeaderResponse;
    /// Makes a running, empty replica a learner.
    add_replica: AddReplicaRequest => AddReplicaResponse;
    /// Makes a learner that has caught up a voter.
    promote_replica: PromoteReplicaRequest => PromoteReplicaResponse;
    /// Takes a member out.
    remove_replica: RemoveReplicaRequest => RemoveReplicaResponse;
    /// Puts a running, empty replica in the place of a member.
    replace_replica: ReplaceReplicaRequest => ReplaceReplicaResponse;
    /// Takes note that a member is reached elsewhere.
    change_addresses: ChangeAddressesRequest => ChangeAddressesResponse;
    /// Has every replica of a broker group hash its state as of one entry.
    propose_digest: ProposeDigestRequest => ProposeDigestResponse;
    /// The asked replica's own hash as of that entry.
    read_digest: ReadDigestRequest => ReadDigestResponse;
    /// The asked replica's report on itself and on what it hears.
    report_health: ReportHealthRequest => ReportHealthResponse;
    /// Makes a topic in every broker group.
    create_topic: CreateTopicRequest => CreateTopicResponse;
    /// All topics.
    list_topics: ListTopicsRequest => ListTopicsResponse;
    /// One topic with its message queues.
    describe_topic: DescribeTopicRequest => DescribeTopicResponse;
    /// Removes a topic with its messages.
    delete_topic: DeleteTopicRequest => DeleteTopicResponse;
    /// Makes a consumer group in every broker group.
    create_consumer_group: CreateConsumerGroupRequest => CreateConsumerGroupResponse;
    /// All consumer groups.
    list_consumer_groups: ListConsumerGroupsRequest => ListConsumerGroupsResponse;
    /// One consumer group with its progress.
    describe_consumer_group: DescribeConsumerGroupRequest => DescribeConsumerGroupResponse;
}
