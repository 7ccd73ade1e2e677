//! `ledgermq bootstrap`: gives a broker group its first membership. Done once in its life, never from configuration.

use crate::admin::Target;
use crate::endpoints::check_address;
use crate::failure::Failure;
use crate::output::line_out;
use clap::Args;
use ledgermq_proto::admin;

/// The flags.
#[derive(Args)]
pub struct Arguments {
    /// The broker group
    #[arg(long)]
    broker_group: String,
    /// A replica: its number, where the other replicas reach it, where clients reach it
    #[arg(long, required = true, value_name = "ID=PEER_HOST:PORT=CLIENT_HOST:PORT", value_parser = member)]
    member: Vec<admin::Member>,
    #[command(flatten)]
    target: Target,
}

/// Reads `ID=PEER_HOST:PORT=CLIENT_HOST:PORT`.
fn member(text: &str) -> Result<admin::Member, String> {
    let mut parts = text.splitn(3, '=');
    let (Some(id), Some(peer), Some(client)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("expected ID=PEER_HOST:PORT=CLIENT_HOST:PORT".to_owned());
    };
    let id = id.parse().map_err(|_| format!("{id:?} is no replica number"))?;
    check_address(peer)?;
    check_address(client)?;
    Ok(admin::Member {
        id,
        peer_address: peer.to_owned(),
        client_address: client.to_owned(),
    })
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let cluster_id = bootstrap(&arguments.target, &arguments.broker_group, arguments.member).await?;
    line_out(&format!(
        "broker group {} bootstrapped, cluster id {cluster_id}",
        arguments.broker_group
    ))
}

/// Makes the call; answers the cluster id.
pub async fn bootstrap(target: &Target, broker_group: &str, members: Vec<admin::Member>) -> Result<String, Failure> {
    let request = admin::BootstrapRequest {
        broker_group: broker_group.to_owned(),
        members,
    };
    let response = target
        .admin()
        .bootstrap(request)
        .await
        .map_err(target.failed("bootstrap"))?;
    Ok(response.cluster_id)
}

#[cfg(test)]
mod tests {
    use super::member;

    #[test]
    fn a_member_has_three_parts() {
        let it = member("2=10.0.0.2:9001=broker-2:8081").expect("valid");
        assert_eq!(
            (it.id, it.peer_address.as_str(), it.client_address.as_str()),
            (2, "10.0.0.2:9001", "broker-2:8081")
        );
        for text in ["", "1", "1=a:1", "x=a:1=b:2", "1=a=b:2", "1=a:1=b"] {
            assert!(member(text).is_err(), "{text:?} was taken");
        }
    }
}
