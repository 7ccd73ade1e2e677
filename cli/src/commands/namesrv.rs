//! `ledgermq namesrv`: runs a name server until SIGTERM or Ctrl-C.

use crate::endpoints::check_address;
use crate::failure::Failure;
use crate::output::line_out;
use crate::signals::stop_asked;
use clap::Args;
use ledgermq_proto::net::TcpNet;
use std::sync::Arc;

/// The flags.
#[derive(Args)]
pub struct Arguments {
    /// Where brokers and clients reach it; port 0 takes a free one, which is printed
    #[arg(long, default_value = "127.0.0.1:9876", value_name = "HOST:PORT", value_parser = listen_address)]
    listen: String,
}

fn listen_address(text: &str) -> Result<String, String> {
    check_address(text).map(|()| text.to_owned())
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let stop = stop_asked()?;
    let shutdown = async move {
        let signal = stop.await;
        tracing::info!(signal, "name server stops");
    };
    let (address, serving) = ledgermq_namesrv::serve(
        Arc::new(TcpNet),
        &arguments.listen,
        ledgermq_namesrv::Options::default(),
        shutdown,
    )
    .await
    .map_err(|error| Failure::local(format_args!("listen on {}", arguments.listen), error))?;
    line_out(&format!("name server {address}"))?;
    serving
        .await
        .map_err(|error| Failure::local(format_args!("name server {address}"), error))
}
