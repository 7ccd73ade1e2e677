//! Administrative calls: which brokers to ask, and how a refusal becomes a failure of the command.

use crate::endpoints::Endpoints;
use crate::failure::Failure;
use clap::Args;
use ledgermq_client::Admin;
use ledgermq_proto::net::{Net, TcpNet};
use std::sync::Arc;
use tonic::{Code, Status};

/// The flags of every command that asks a broker.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Brokers to ask: host:port, several separated by ';'
    #[arg(
        long,
        env = "LEDGERMQ_ENDPOINTS",
        default_value = "127.0.0.1:8081",
        value_name = "HOST:PORT[;…]"
    )]
    pub endpoints: Endpoints,
}

impl Target {
    /// `host:port`, several separated by `;`.
    pub fn parse(addresses: &str) -> Result<Target, String> {
        Ok(Target {
            endpoints: addresses.parse()?,
        })
    }

    /// Any replica takes administrative calls: the first that answers is used.
    pub fn admin(&self) -> Admin {
        let net: Arc<dyn Net> = Arc::new(TcpNet);
        Admin::new(&net, self.endpoints.addresses())
    }

    /// The failure of an administrative call; `doing` names the call. Where nobody answered, it says who was asked.
    pub fn failed(&self, doing: &str) -> impl FnOnce(Status) -> Failure {
        move |status| match status.code() {
            Code::Unavailable | Code::DeadlineExceeded => {
                Failure::from_status(format_args!("{doing} at {}", self.endpoints), &status)
            }
            _ => Failure::from_status(doing, &status),
        }
    }
}
