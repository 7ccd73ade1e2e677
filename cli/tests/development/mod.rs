//! A development cluster of one replica, and commands run against it.

#![allow(dead_code)]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running `ledgermq dev`; dropped, it is killed.
pub struct Dev {
    pub child: Child,
    pub access_point: String,
    pub config: String,
    pub pid: u32,
}

impl Dev {
    pub fn start(processes: bool, folder: &std::path::Path) -> Dev {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ledgermq"));
        command
            .args(["dev", "--replicas", "1", "--port", "0", "--data"])
            .arg(folder);
        if processes {
            command.arg("--processes");
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("dev starts");
        let lines: Vec<String> = BufReader::new(child.stdout.take().expect("piped"))
            .lines()
            .map(|line| line.expect("a line"))
            .scan(false, |ready, line| {
                let more = !*ready;
                *ready = line.starts_with("ready ");
                more.then_some(line)
            })
            .take(2)
            .collect();
        let [replica, ready] = lines.as_slice() else {
            panic!("dev printed {lines:?}")
        };
        let words: Vec<&str> = replica.split(' ').collect();
        let [
            "replica",
            "broker-a/1",
            "pid",
            pid,
            "access-point",
            access_point,
            "config",
            config,
        ] = words[..]
        else {
            panic!("dev printed {replica:?}")
        };
        assert_eq!(ready, &format!("ready {access_point}"));
        let (access_point, config) = (access_point.to_owned(), config.to_owned());
        let pid = pid.parse().expect("a pid");
        Dev {
            child,
            access_point,
            config,
            pid,
        }
    }

    pub fn run(&self, arguments: &[&str]) -> Result<String, (Option<i32>, String)> {
        let output = Command::new(env!("CARGO_BIN_EXE_ledgermq"))
            .args(arguments)
            .env("LEDGERMQ_ENDPOINTS", &self.access_point)
            .output()
            .expect("the binary runs");
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).expect("text")),
            false => Err((
                output.status.code(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )),
        }
    }

    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.run(arguments).expect("done");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"))
            .collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
