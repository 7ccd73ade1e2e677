//! `ledgermq send`: sends messages and prints a JSON line for each that was acknowledged, in the order of the
//! acknowledgements.

use crate::admin::Target;
use crate::clients;
use crate::failure::{Failure, Kind};
use crate::limits::{LINE_BYTES_MAX, SEND_IN_FLIGHT_MAX};
use crate::output::json_line;
use bytes::Bytes;
use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt};
use ledgermq_client::{Error, Message, Producer, Receipt};
use serde::Serialize;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The flags.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("bodies").required(true).multiple(false))]
pub struct Arguments {
    /// The topic
    #[arg(long)]
    topic: String,
    /// One message with this body
    #[arg(long, group = "bodies", value_name = "TEXT")]
    body: Option<String>,
    /// A message for each line of a file
    #[arg(long, group = "bodies", value_name = "FILE")]
    lines: Option<PathBuf>,
    /// This many messages of --size bytes
    #[arg(long, group = "bodies", value_name = "N", requires = "size")]
    count: Option<u64>,
    /// Bytes of each body, with --count
    #[arg(long, value_name = "BYTES", requires = "count", value_parser = clap::value_parser!(u64).range(1..))]
    size: Option<u64>,
    /// The tag of every message
    #[arg(long)]
    tag: Option<String>,
    /// A key of every message; may be given several times
    #[arg(long)]
    key: Vec<String>,
    /// The message group: these messages are received in the order in which they were sent
    #[arg(long)]
    message_group: Option<String>,
    /// Tell on stderr how it goes
    #[arg(long)]
    progress: bool,
    /// Messages that wait for their acknowledgement at the same time [default: 32; 1 with --message-group]
    #[arg(long, value_name = "N", value_parser = in_flight)]
    in_flight: Option<usize>,
    /// At most this many messages a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    target: Target,
}

fn in_flight(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=SEND_IN_FLIGHT_MAX).contains(&count) => Ok(count),
        _ => Err(format!("expected 1 to {SEND_IN_FLIGHT_MAX}")),
    }
}

/// One acknowledged message, as it is printed.
#[derive(Serialize)]
struct Sent {
    message_id: String,
    broker_group: String,
    queue_id: Option<u32>,
    queue_offset: u64,
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let in_order = if arguments.message_group.is_some() { 1 } else { 32 };
    let in_flight_max = arguments.in_flight.unwrap_or(in_order);
    let mut bodies = bodies(&arguments)?;
    let producer = clients::producer(&arguments.target, 1, true)?;
    let mut pace = Pace::new(arguments.rate);
    let mut progress = Progress::new(arguments.progress);
    let mut in_flight = FuturesUnordered::new();
    let mut first_failure = None;
    let mut outcome = Ok(());
    let mut more = true;
    while more || !in_flight.is_empty() {
        tokio::select! {
            biased;
            Some(sent) = in_flight.next() => {
                match finished(&mut progress, sent) {
                    Ok(()) => {}
                    Err(failure) if failure.is_silent() => { outcome = Err(failure); break; }
                    Err(failure) => {
                        eprintln!("ledgermq: {failure}");
                        first_failure.get_or_insert(failure.kind());
                    }
                }
            }
            () = pace.next(), if more && in_flight.len() < in_flight_max => match bodies.next() {
                Some(Ok(body)) => in_flight.push(send(producer.clone(), message(&arguments, body))),
                Some(Err(failure)) => { outcome = Err(failure); more = false; }
                None => more = false,
            },
        }
    }
    progress.last();
    producer.shutdown().await;
    match (outcome, first_failure) {
        (Err(failure), _) => Err(failure),
        (Ok(()), Some(kind)) => Err(Failure::new(
            kind,
            format!("{} messages were not acknowledged", progress.failed),
        )),
        (Ok(()), None) => Ok(()),
    }
}

async fn send(producer: Producer, message: Message) -> Result<Receipt, Error> {
    producer.send(message).await
}

fn finished(progress: &mut Progress, sent: Result<Receipt, Error>) -> Result<(), Failure> {
    progress.count(sent.is_ok());
    let receipt = sent.map_err(|error| Failure::from_client("send", &error))?;
    json_line(&Sent {
        message_id: receipt.message_id,
        broker_group: receipt.broker_group,
        queue_id: receipt.queue_id,
        queue_offset: receipt.queue_offset,
    })
}

fn message(arguments: &Arguments, body: Bytes) -> Message {
    let mut message = Message::new(arguments.topic.as_str(), body);
    message.tag = arguments.tag.clone();
    message.keys = arguments.key.clone();
    message.message_group = arguments.message_group.clone();
    message
}

/// The bodies to send, one after the other, made as they are needed.
fn bodies(arguments: &Arguments) -> Result<Box<dyn Iterator<Item = Result<Bytes, Failure>>>, Failure> {
    if let Some(body) = &arguments.body {
        return Ok(Box::new(std::iter::once(Ok(Bytes::copy_from_slice(body.as_bytes())))));
    }
    if let Some(file) = &arguments.lines {
        return lines(file);
    }
    let size = usize::try_from(arguments.size.unwrap_or(1))
        .unwrap_or(usize::MAX)
        .min(LINE_BYTES_MAX);
    let count = arguments.count.unwrap_or(0);
    Ok(Box::new((1..=count).map(move |number| Ok(filled(number, size)))))
}

/// A body of this size that starts with its number, as far as it fits.
fn filled(number: u64, size: usize) -> Bytes {
    let mut body = format!("{number:010} ").into_bytes();
    body.resize(size, b'.');
    body.into()
}

fn lines(file: &Path) -> Result<Box<dyn Iterator<Item = Result<Bytes, Failure>>>, Failure> {
    let name = file.display().to_string();
    let mut reader = BufReader::new(std::fs::File::open(file).map_err(|error| Failure::local(&name, error))?);
    Ok(Box::new(std::iter::from_fn(move || {
        let mut line = Vec::new();
        let bound = LINE_BYTES_MAX as u64 + 1;
        match reader.by_ref().take(bound).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.len() > LINE_BYTES_MAX => Some(Err(Failure::new(
                Kind::Refused,
                format!("{name}: a line is longer than {LINE_BYTES_MAX} bytes"),
            ))),
            Ok(_) => {
                let end = line.strip_suffix(b"\n").unwrap_or(&line).len();
                line.truncate(end);
                Some(Ok(line.into()))
            }
            Err(error) => Some(Err(Failure::local(&name, error))),
        }
    })))
}

/// Spreads the sends evenly over time.
struct Pace {
    between: Option<Duration>,
    next: Instant,
}

impl Pace {
    fn new(rate: Option<u32>) -> Pace {
        Pace {
            between: rate.map(|rate| Duration::from_secs(1) / rate),
            next: Instant::now(),
        }
    }

    /// Waits until the next message is due. Cancel-safe: only the end takes the turn.
    async fn next(&mut self) {
        if let Some(between) = self.between {
            sleep_until(self.next).await;
            // A sender that fell behind (nobody answered) does not catch up in a burst longer than a second.
            let earliest = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or(self.next);
            self.next = self.next.max(earliest) + between;
        }
    }
}

/// What `--progress` tells on stderr.
struct Progress {
    told: bool,
    sent: u64,
    failed: u64,
    last_ack: Option<Instant>,
    longest_pause: Duration,
    next_line: Instant,
}

impl Progress {
    const INTERVAL: Duration = Duration::from_millis(500);

    fn new(told: bool) -> Progress {
        let next_line = Instant::now() + Progress::INTERVAL;
        Progress {
            told,
            sent: 0,
            failed: 0,
            last_ack: None,
            longest_pause: Duration::ZERO,
            next_line,
        }
    }

    fn count(&mut self, acknowledged: bool) {
        let now = Instant::now();
        if acknowledged {
            self.sent += 1;
            let pause = self.last_ack.map_or(Duration::ZERO, |last| now - last);
            self.longest_pause = self.longest_pause.max(pause);
            self.last_ack = Some(now);
        } else {
            self.failed += 1;
        }
        if now >= self.next_line {
            self.next_line = now + Progress::INTERVAL;
            self.last();
        }
    }

    /// One line; the last one is the result.
    fn last(&self) {
        if self.told {
            let pause = self.longest_pause.as_secs_f64() * 1000.0;
            eprintln!("sent {} failed {} longest pause {pause:.1} ms", self.sent, self.failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{filled, lines};
    use std::io::Write;

    #[test]
    fn bodies_have_the_size_asked_for() {
        assert_eq!(&filled(7, 14)[..], b"0000000007 ...");
        assert_eq!(filled(7, 3).len(), 3);
    }

    #[test]
    fn every_line_is_a_body() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        write!(file, "one\n two \nthree").expect("written");
        let bodies: Vec<_> = lines(file.path())
            .expect("open")
            .map(|body| body.expect("read"))
            .collect();
        assert_eq!(bodies, ["one", " two ", "three"]);
    }
}
