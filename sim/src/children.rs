//! Runs in child processes: one process a seed, several at a time, each with a bound on its real time.
//!
//! ```text
//!   jobs ─▶ up to `at_once` processes ─▶ report file, exit code, last words on stderr ─▶ Ended, as they end
//! ```
//! A process that hangs is killed and counts as a failure, and so does one that dies without a report.

use std::{
    collections::VecDeque,
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{files, limits, report::Report};

/// A run to be started.
#[derive(Clone, Debug)]
pub struct Job {
    /// The arguments of the program; `--quiet` and `--report` are added, before a bare `--`.
    pub arguments: Vec<String>,
    /// Names the job's files in the folder; unique among the jobs that run at a time.
    pub name: String,
}

/// How a child process ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// It ran to its verdict.
    Reported(Box<Report>),
    /// It was killed after the bound on its real time.
    Hung,
    /// It died without a verdict: how, and its last words.
    Died(String),
}

/// The exit code of a run that could not be carried out.
const COULD_NOT_RUN: i32 = 3;

impl Ended {
    /// What went wrong, the first of it; `None` for a pass.
    pub fn violation(&self) -> Option<&str> {
        match self {
            Ended::Reported(report) => report.violations.first().map(String::as_str),
            Ended::Hung => Some("hangs"),
            Ended::Died(how) => Some(how),
        }
    }
}

/// Starts runs and waits for them.
#[derive(Clone, Debug)]
pub struct Children {
    /// The program, `ledgermq-sim` itself.
    pub binary: PathBuf,
    /// Where report files live for as long as a run takes.
    pub folder: PathBuf,
    /// Processes at a time, at least 1.
    pub at_once: usize,
    /// Real time after which a process counts as hanging.
    pub bound: Duration,
}

struct Running {
    nth: usize,
    job: Job,
    child: Child,
    since: Instant,
}

impl Children {
    /// Runs of this very program, reports in `folder`, which is made.
    pub fn of_this_program(folder: &Path, at_once: usize) -> io::Result<Children> {
        Children::new(&std::env::current_exe()?, folder, at_once)
    }

    /// The same of another program that takes the same arguments.
    pub fn new(binary: &Path, folder: &Path, at_once: usize) -> io::Result<Children> {
        files::create_folder(folder)?;
        Ok(Children {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            at_once: at_once.max(1),
            bound: limits::RUN_WALL_BOUND,
        })
    }

    /// One run.
    pub fn run(&self, job: Job) -> io::Result<Ended> {
        let mut answer = None;
        self.run_all([job], |_, _, ended| {
            answer = Some(ended);
            ControlFlow::Continue(())
        })?;
        answer.ok_or_else(|| io::Error::other("a run without an end"))
    }

    /// Takes jobs as long as there are any and as `ended` (called with the job's place, the job, and how it ended, in the
    /// order in which runs end) wants to go on. After a break no new job is started and what still runs is killed.
    pub fn run_all(
        &self,
        jobs: impl IntoIterator<Item = Job>,
        mut ended: impl FnMut(usize, &Job, Ended) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut jobs = jobs.into_iter().enumerate();
        let mut running: VecDeque<Running> = VecDeque::new();
        let played = self.rounds(&mut jobs, &mut running, &mut ended);
        for mut left in running {
            left.child.kill()?;
            left.child.wait()?;
            self.clean(&left.job)?;
        }
        played
    }

    fn rounds(
        &self,
        jobs: &mut impl Iterator<Item = (usize, Job)>,
        running: &mut VecDeque<Running>,
        ended: &mut impl FnMut(usize, &Job, Ended) -> ControlFlow<()>,
    ) -> io::Result<()> {
        const POLL: Duration = Duration::from_millis(10);
        let mut dry = false;
        loop {
            while !dry && running.len() < self.at_once {
                match jobs.next() {
                    Some((nth, job)) => running.push_back(self.start(nth, job)?),
                    None => dry = true,
                }
            }
            if running.is_empty() {
                return Ok(());
            }
            for _ in 0..running.len() {
                let Some(mut run) = running.pop_front() else {
                    break;
                };
                let Some(how) = self.look(&mut run)? else {
                    running.push_back(run);
                    continue;
                };
                self.clean(&run.job)?;
                if ended(run.nth, &run.job, how).is_break() {
                    return Ok(());
                }
            }
            thread::sleep(POLL);
        }
    }

    fn report_file(&self, job: &Job) -> PathBuf {
        self.file(job, "report")
    }

    fn words_file(&self, job: &Job) -> PathBuf {
        self.file(job, "stderr")
    }

    /// Another process may run a job of the same name in the same folder.
    fn file(&self, job: &Job, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{}.{what}", job.name, std::process::id()))
    }

    fn clean(&self, job: &Job) -> io::Result<()> {
        files::remove(&self.report_file(job))?;
        files::remove(&self.words_file(job))
    }

    fn start(&self, nth: usize, job: Job) -> io::Result<Running> {
        // What a run of that name left that was broken off.
        self.clean(&job)?;
        // What stands behind a bare `--` is not the program's own.
        let own = job.arguments.iter().position(|argument| argument == "--");
        let (own, rest) = job.arguments.split_at(own.unwrap_or(job.arguments.len()));
        let child = Command::new(&self.binary)
            .args(own)
            .arg("--quiet")
            .arg("--report")
            .arg(self.report_file(&job))
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(files::create(&self.words_file(&job))?)
            .spawn()?;
        let since = now();
        Ok(Running { nth, job, child, since })
    }

    /// How a run ended; `None` while it goes on.
    fn look(&self, run: &mut Running) -> io::Result<Option<Ended>> {
        let Some(status) = run.child.try_wait()? else {
            if run.since.elapsed() < self.bound {
                return Ok(None);
            }
            run.child.kill()?;
            run.child.wait()?;
            return Ok(Some(Ended::Hung));
        };
        // What it was given was wrong, or a file: that says nothing of the seed.
        if status.code() == Some(COULD_NOT_RUN) {
            let words = self.last_words(&run.job, status)?;
            return Err(io::Error::other(format!("{}: {words}", run.job.name)));
        }
        match Report::read(&self.report_file(&run.job)) {
            // A pass that died after its verdict is none.
            Ok(report) if status.success() || !report.passed() => Ok(Some(Ended::Reported(Box::new(report)))),
            _ => Ok(Some(Ended::Died(self.last_words(&run.job, status)?))),
        }
    }

    fn last_words(&self, job: &Job, status: ExitStatus) -> io::Result<String> {
        let bytes = files::read(&self.words_file(job))?;
        Ok(format!(
            "no verdict ({status}): {}",
            telling(&String::from_utf8_lossy(&bytes))
        ))
    }
}

/// What tells most of why a process died: its first panic, and its last lines. Between them may be a long list of calls.
fn telling(words: &str) -> String {
    let lines: Vec<&str> = words.lines().collect();
    let last = lines.len().saturating_sub(limits::LAST_WORDS_LINES);
    let (before, last) = lines.split_at(last);
    // Where it was, and what it said.
    let panic = before.iter().skip_while(|line| !line.contains(" panicked at ")).take(2);
    panic.chain(last).copied().collect::<Vec<&str>>().join(" | ")
}

#[expect(clippy::disallowed_methods, reason = "the watchdog measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Seconds of processor time (user and system) of all child processes that were waited for, read from /proc.
pub fn cpu_seconds() -> io::Result<f64> {
    const FILE: &str = "/proc/self/stat";
    let stat = fs::read_to_string(FILE)?;
    children_ticks(&stat)
        .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}: not understood")))
}

/// The unit of the times in /proc/PID/stat: fixed for user space on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// cutime + cstime: the 16th and 17th field. The second is the program's name in parentheses, which may hold spaces.
fn children_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(13);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn children(name: &str, bound: Duration) -> Children {
        let folder = std::env::temp_dir().join(format!("ledgermq-sim-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Children {
            binary: "/bin/sh".into(),
            folder,
            at_once: 2,
            bound,
        }
    }

    fn script(name: &str, script: &str) -> Job {
        Job {
            arguments: ["-c", script, "sh"].map(str::to_owned).into(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn the_first_panic_is_told_whatever_follows_it() {
        assert_eq!(telling("killed"), "killed");
        let calls = "   7: somewhere\n".repeat(limits::LAST_WORDS_LINES);
        let words = format!("warning\nthread 'main' panicked at a.rs:1:2:\ntoo large\n{calls}aborting");
        let told = telling(&words);
        assert!(
            told.starts_with("thread 'main' panicked at a.rs:1:2: | too large | "),
            "{told}"
        );
        assert!(told.ends_with(" | aborting"), "{told}");
    }

    #[test]
    fn a_run_that_could_not_be_carried_out_is_no_verdict() {
        let children = children("usage", Duration::from_secs(60));
        let refused = children.run(script("usage", "echo no such profile >&2; exit 3"));
        let told = refused.expect_err("no verdict").to_string();
        assert!(
            told.starts_with("usage: ") && told.contains("no such profile"),
            "{told}"
        );
        fs::remove_dir_all(&children.folder).expect("the folder");
    }

    #[test]
    fn the_watchdog_ends_a_run_that_hangs() {
        let children = children("hang", Duration::from_millis(50));
        let ended = children.run(script("hang", "exec sleep 600")).expect("started");
        assert!(matches!(ended, Ended::Hung), "{ended:?}");
        assert_eq!(fs::read_dir(&children.folder).expect("the folder").count(), 0);
        fs::remove_dir(&children.folder).expect("empty");
    }

    #[test]
    fn a_run_without_a_verdict_failed_and_its_last_words_are_kept() {
        let children = children("died", Duration::from_secs(60));
        let ended = children
            .run(script("died", "echo went wrong >&2; exit 0"))
            .expect("started");
        assert!(
            ended.violation().is_some_and(|what| what.contains("went wrong")),
            "{ended:?}"
        );
        fs::remove_dir(&children.folder).expect("empty");
    }

    #[test]
    fn reports_come_back_and_a_break_ends_the_rest() {
        let children = children("report", Duration::from_secs(60));
        let good = Report {
            events: 7,
            ..Report::default()
        };
        let text = serde_json::to_string(&good).expect("JSON");
        let write = format!("printf '%s' '{text}' > \"$3\"");
        let mut seen = Vec::new();
        let jobs = [script("a", &write), script("b", "exec sleep 600"), script("c", &write)];
        children
            .run_all(jobs, |nth, job, ended| {
                assert!(ended.violation().is_none(), "{ended:?}");
                seen.push((nth, job.name.clone()));
                if nth == 2 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .expect("started");
        assert_eq!(seen, [(0, "a".to_owned()), (2, "c".to_owned())]);
        fs::remove_dir(&children.folder).expect("empty");
    }

    #[test]
    fn the_time_of_children_is_read_behind_the_name() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 30 12 20 0 1 0 1 1 1";
        assert_eq!(children_ticks(stat), Some(42));
        assert!(cpu_seconds().expect("/proc") >= 0.0);
    }
}
