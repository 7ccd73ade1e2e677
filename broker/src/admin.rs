//! `ledgermq.admin.v1`: what the command line asks. Any replica takes a call and brings it to the leader where it must;
//! refusals are gRPC statuses.

pub mod cluster;
pub mod consumer_groups;
pub mod digest;
pub mod health;
pub mod replicas;
pub mod topics;

use std::sync::Arc;

use ledgermq_proto::admin as wire;
use ledgermq_proto::admin::admin_server::Admin;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::config::Durability;
use crate::door::Door;
use crate::language::Language;
use crate::leader::Verb;
use crate::limits;
use crate::refusal::grpc;
use crate::routes::Routes;

/// The service.
#[derive(Clone)]
pub struct Administration {
    /// The way to the leader.
    pub door: Arc<Door>,
    /// Other broker groups.
    pub routes: Arc<Routes>,
    /// What an acknowledgement promises here.
    pub durability: Durability,
    /// What this replica reports of itself beside its log.
    pub own: Arc<health::Own>,
}

/// The word for it.
fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::FsyncQuorum => "fsync-quorum",
        Durability::MemoryQuorum => "memory-quorum",
    }
}

impl Administration {
    async fn ask<V: Verb>(&self, request: &V::Request) -> Result<Response<V::Reply>, Status> {
        let reply = self.door.call::<V>(&self.own_call(), request).await;
        reply.map(Response::new).map_err(|refusal| grpc(&refusal))
    }

    /// The same, for one broker group, which must be this broker's.
    async fn ask_of<V: Verb>(&self, broker_group: &str, request: &V::Request) -> Result<Response<V::Reply>, Status> {
        cluster::own_group(self, broker_group)?;
        self.ask::<V>(request).await
    }

    fn own_call(&self) -> Call {
        Call {
            client_id: "ledgermq-admin".to_owned(),
            language: Language::Unknown,
            client_version: String::new(),
            peer_host: String::new(),
            request_id: self.door.leader.request_id(),
            client_deadline: None,
            deadline: Instant::now() + limits::HOLD,
        }
    }
}

#[tonic::async_trait]
impl Admin for Administration {
    async fn describe_cluster(
        &self,
        _request: Request<wire::DescribeClusterRequest>,
    ) -> Result<Response<wire::DescribeClusterResponse>, Status> {
        Ok(Response::new(cluster::describe(self).await))
    }

    async fn bootstrap(
        &self,
        request: Request<wire::BootstrapRequest>,
    ) -> Result<Response<wire::BootstrapResponse>, Status> {
        cluster::bootstrap(self, request.into_inner()).await.map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        cluster::transfer(self, request.into_inner()).await.map(Response::new)
    }

    async fn add_replica(
        &self,
        request: Request<wire::AddReplicaRequest>,
    ) -> Result<Response<wire::AddReplicaResponse>, Status> {
        let request = request.get_ref();
        self.ask_of::<replicas::AddReplica>(&request.broker_group, request)
            .await
    }

    async fn promote_replica(
        &self,
        request: Request<wire::PromoteReplicaRequest>,
    ) -> Result<Response<wire::PromoteReplicaResponse>, Status> {
        let request = request.get_ref();
        self.ask_of::<replicas::PromoteReplica>(&request.broker_group, request)
            .await
    }

    async fn remove_replica(
        &self,
        request: Request<wire::RemoveReplicaRequest>,
    ) -> Result<Response<wire::RemoveReplicaResponse>, Status> {
        let request = request.get_ref();
        self.ask_of::<replicas::RemoveReplica>(&request.broker_group, request)
            .await
    }

    async fn replace_replica(
        &self,
        request: Request<wire::ReplaceReplicaRequest>,
    ) -> Result<Response<wire::ReplaceReplicaResponse>, Status> {
        let request = request.get_ref();
        self.ask_of::<replicas::ReplaceReplica>(&request.broker_group, request)
            .await
    }

    async fn change_addresses(
        &self,
        request: Request<wire::ChangeAddressesRequest>,
    ) -> Result<Response<wire::ChangeAddressesResponse>, Status> {
        let request = request.get_ref();
        self.ask_of::<replicas::ChangeAddresses>(&request.broker_group, request)
            .await
    }

    async fn propose_digest(
        &self,
        request: Request<wire::ProposeDigestRequest>,
    ) -> Result<Response<wire::ProposeDigestResponse>, Status> {
        cluster::own_group(self, &request.get_ref().broker_group)?;
        self.ask::<digest::ProposeDigest>(request.get_ref()).await
    }

    async fn read_digest(
        &self,
        request: Request<wire::ReadDigestRequest>,
    ) -> Result<Response<wire::ReadDigestResponse>, Status> {
        digest::read(self, request.get_ref()).await.map(Response::new)
    }

    async fn report_health(
        &self,
        _request: Request<wire::ReportHealthRequest>,
    ) -> Result<Response<wire::ReportHealthResponse>, Status> {
        Ok(Response::new(health::report(self)))
    }

    async fn create_topic(
        &self,
        request: Request<wire::CreateTopicRequest>,
    ) -> Result<Response<wire::CreateTopicResponse>, Status> {
        topics::create(self, request.into_inner()).await
    }

    async fn list_topics(
        &self,
        request: Request<wire::ListTopicsRequest>,
    ) -> Result<Response<wire::ListTopicsResponse>, Status> {
        self.ask::<topics::ListTopics>(request.get_ref()).await
    }

    async fn describe_topic(
        &self,
        request: Request<wire::DescribeTopicRequest>,
    ) -> Result<Response<wire::DescribeTopicResponse>, Status> {
        self.ask::<topics::DescribeTopic>(request.get_ref()).await
    }

    async fn delete_topic(
        &self,
        request: Request<wire::DeleteTopicRequest>,
    ) -> Result<Response<wire::DeleteTopicResponse>, Status> {
        self.ask::<topics::DeleteTopic>(request.get_ref()).await
    }

    async fn create_consumer_group(
        &self,
        request: Request<wire::CreateConsumerGroupRequest>,
    ) -> Result<Response<wire::CreateConsumerGroupResponse>, Status> {
        consumer_groups::create(self, request.into_inner()).await
    }

    async fn list_consumer_groups(
        &self,
        request: Request<wire::ListConsumerGroupsRequest>,
    ) -> Result<Response<wire::ListConsumerGroupsResponse>, Status> {
        self.ask::<consumer_groups::ListConsumerGroups>(request.get_ref()).await
    }

    async fn describe_consumer_group(
        &self,
        request: Request<wire::DescribeConsumerGroupRequest>,
    ) -> Result<Response<wire::DescribeConsumerGroupResponse>, Status> {
        self.ask::<consumer_groups::DescribeConsumerGroup>(request.get_ref())
            .await
    }
}
