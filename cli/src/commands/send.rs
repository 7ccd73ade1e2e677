//! `ledgermq send`: sends messages and prints a JSON line for each that was acknowledged, in the order of the
//! acknowledgements.

use crate::admin::Target;
use crate::clients;
use crate::failure::{Failure, Kind};
use crate::limits::{LINE_BYTES_MAX, LINES_AHEAD_MAX, SEND_IN_FLIGHT_MAX, bounded};
use crate::output::json_line;
use bytes::Bytes;
use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt};
use ledgermq_client::{Error, Message, Producer, Receipt};
use serde::Serialize;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
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
    /// A message for each line of a file, or of a pipe (/dev/stdin): each is sent as soon as it is there
    #[arg(long, group = "bodies", value_name = "FILE")]
    lines: Option<PathBuf>,
    /// This many messages of --size bytes
    #[arg(long, group = "bodies", value_name = "N", requires = "size")]
    count: Option<u64>,
    /// Bytes of each body, with --count
    #[arg(long, value_name = "BYTES", requires = "count", value_parser = bounded::<LINE_BYTES_MAX>)]
    size: Option<usize>,
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
    #[arg(long, value_name = "N", value_parser = bounded::<SEND_IN_FLIGHT_MAX>)]
    in_flight: Option<usize>,
    /// At most this many messages a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    target: Target,
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
            body = next_body(&pace, &mut bodies), if more && in_flight.len() < in_flight_max => match body {
                Some(Ok(body)) => {
                    pace.take();
                    in_flight.push(send(producer.clone(), message(&arguments, body)));
                }
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

/// The next body, once it is due. Cancel-safe: a body that is taken is answered at once.
async fn next_body(pace: &Pace, bodies: &mut Bodies) -> Option<Result<Bytes, Failure>> {
    pace.due().await;
    bodies.next().await
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

/// The bodies to send, one after the other, made or read as they are needed.
enum Bodies {
    Made(Box<dyn Iterator<Item = Bytes>>),
    /// What a thread reads ahead: a file may be a pipe that has its next line in an hour.
    Read(mpsc::Receiver<Result<Bytes, Failure>>),
}

impl Bodies {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        match self {
            Bodies::Made(bodies) => bodies.next().map(Ok),
            Bodies::Read(lines) => lines.recv().await,
        }
    }
}

fn bodies(arguments: &Arguments) -> Result<Bodies, Failure> {
    if let Some(body) = &arguments.body {
        let body = Bytes::copy_from_slice(body.as_bytes());
        return Ok(Bodies::Made(Box::new(std::iter::once(body))));
    }
    if let Some(file) = &arguments.lines {
        return read_ahead(lines(file)?).map(Bodies::Read);
    }
    let (count, size) = (arguments.count.unwrap_or(0), arguments.size.unwrap_or(1));
    Ok(Bodies::Made(Box::new(
        (1..=count).map(move |number| filled(number, size)),
    )))
}

/// A body of this size that starts with its number, as far as it fits.
fn filled(number: u64, size: usize) -> Bytes {
    let mut body = format!("{number:010} ").into_bytes();
    body.resize(size, b'.');
    body.into()
}

type Lines = Box<dyn Iterator<Item = Result<Bytes, Failure>> + Send>;

/// The thread ends with the lines, or when nobody wants them any more and one more has come. The process waits for it
/// in no case.
fn read_ahead(lines: Lines) -> Result<mpsc::Receiver<Result<Bytes, Failure>>, Failure> {
    let (ahead, taken) = mpsc::channel(LINES_AHEAD_MAX);
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || lines.map(|line| ahead.blocking_send(line)).find(Result::is_err))
        .map_err(|error| Failure::local("thread of the lines", error))?;
    Ok(taken)
}

fn lines(file: &Path) -> Result<Lines, Failure> {
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

    /// Waits until the next message is due.
    async fn due(&self) {
        if self.between.is_some() {
            sleep_until(self.next).await;
        }
    }

    /// It is sent.
    fn take(&mut self) {
        if let Some(between) = self.between {
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
    use super::{filled, lines, read_ahead};
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

    #[tokio::test]
    async fn a_line_of_a_pipe_comes_before_the_next_one_is_written() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let pipe = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let mut read = read_ahead(lines(pipe.as_ref()).expect("open")).expect("a thread");
        for line in ["one", "two"] {
            writeln!(writer, "{line}").expect("written");
            let body = read.recv().await.expect("a line").expect("read");
            assert_eq!(body, line);
        }
        drop(writer);
        assert!(read.recv().await.is_none());
    }
}
