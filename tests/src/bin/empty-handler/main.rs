//! What a unary gRPC call costs by itself: a tonic server whose SendMessage handler does nothing, and a load generator.
//!
//! ```text
//! empty-handler serve                         prints "ready HOST:PORT", serves until its parent is gone
//! empty-handler run [OPTIONS]                 serves in a second process, loads it, prints one JSON object
//! empty-handler load --address A [OPTIONS]    loads whatever answers SendMessage at A (host:port, several joined by ';')
//!
//! --in-flight 512   --size 1024   --seconds 10   --connections 4   --topic bench
//! ```
//! It is the yardstick of `ledgermq bench produce --unary`: same request, same number in flight, same machine.

mod load;
mod serve;

use std::{collections::BTreeMap, process::Stdio};

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let options = Options(parse(arguments)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match verb.as_str() {
            "serve" => serve::serve().await,
            "load" => {
                let address = options.0.get("address").context("--address is missing")?.clone();
                println!("{}", load::run(&address, &options.settings()?, None).await?);
                Ok(())
            }
            "run" => run(&options).await,
            other => bail!("unknown verb {other:?}: serve, load or run"),
        }
    })
}

/// Serves in a process of its own, so that its CPU time can be told from the generator's.
async fn run(options: &Options) -> anyhow::Result<()> {
    use std::io::BufRead as _;

    let mut server = std::process::Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = server.stdout.take().context("the server has no standard output")?;
    let mut line = String::new();
    std::io::BufReader::new(stdout).read_line(&mut line)?;
    let address = line
        .trim()
        .strip_prefix("ready ")
        .context("the server did not get ready")?
        .to_owned();
    let result = load::run(&address, &options.settings()?, Some(server.id())).await;
    server.kill()?;
    server.wait()?;
    println!("{}", result?);
    Ok(())
}

struct Options(BTreeMap<String, String>);

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    while let Some(name) = arguments.next() {
        let Some(key) = name.strip_prefix("--") else {
            bail!("unexpected argument {name:?}")
        };
        let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
        options.insert(key.to_owned(), value);
    }
    Ok(options)
}

impl Options {
    fn number(&self, name: &str, default: usize) -> anyhow::Result<usize> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => text.parse().with_context(|| format!("--{name} {text}")),
        }
    }

    fn settings(&self) -> anyhow::Result<load::Settings> {
        let settings = load::Settings {
            in_flight: self.number("in-flight", 512)?,
            size: self.number("size", 1024)?,
            seconds: self.number("seconds", 10)?,
            connections: self.number("connections", 4)?,
            topic: self.0.get("topic").cloned().unwrap_or_else(|| "bench".to_owned()),
        };
        if settings.in_flight == 0 || settings.connections == 0 || settings.seconds == 0 {
            bail!("--in-flight, --connections and --seconds must be at least 1");
        }
        Ok(settings)
    }
}
