//! Processes that are killed: what they had been told is there, and others go on with their runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::UNIX_EPOCH;

use treadle::journal::sqlite::{self, Options};
use treadle::journal::{OwnerId, Reply, Request};

use super::super::desk::*;

const NAME: &str = "journal::sqlite::kill::what_a_killed_process_was_told_is_there";
const PLACE: &str = "TREADLE_TEST_KILL";
const ROUNDS: u64 = 12;
const RUNS: u64 = 3;

/// Ends its process whatever happens to the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Goes on with every run of the file until it is killed, and says so after each acknowledgement.
fn work(path: &Path) {
    let (tell, told) = std::sync::mpsc::channel();
    let on_batch = Box::new(move |batch: treadle::journal::Batch| drop(tell.send(batch.answers)));
    let journal = sqlite::open(path, &Options::default(), on_batch).unwrap();
    let next = || told.iter().find(|answers: &Vec<_>| !answers.is_empty()).unwrap().into_iter();
    let owner = OwnerId((std::process::id() as u128).to_le_bytes());
    let enlist = enlist(owner, 60_000_000);
    // A clock that runs a thousand times as fast, so that no take-over waits.
    let now = UNIX_EPOCH.elapsed().unwrap().as_micros() as u64 * 1000;
    let claim = Request::Claim(claim_of(owner, now, 9));
    journal.submit(vec![(0, enlist), (1, claim)]).unwrap();
    let Ok(Reply::Claimed(claimed)) = next().nth(1).unwrap().1 else { panic!("no claim") };
    assert_eq!(claimed.runs.len() as u64, RUNS);
    let mut left = 4000;
    let append = |at: usize, after| {
        let row = &claimed.runs[at];
        let body = format!("{} {}", at, after + 1);
        (at as u64, Request::Append { run: row.id, epoch: row.epoch, after, commit: commit(&[&body]) })
    };
    journal.submit((0..claimed.runs.len()).map(|at| append(at, claimed.runs[at].seq)).collect()).unwrap();
    while left > 0 {
        for (at, answer) in next() {
            let Ok(Reply::Appended { seq, .. }) = answer else { panic!("{answer:?}") };
            println!("told {} {seq}", claimed.runs[at as usize].id);
            journal.submit(vec![append(at as usize, seq)]).unwrap();
            left -= 1;
        }
    }
}

/// Starts a process that works on the file, and kills it when it has said so many things; gives what it said.
fn killed_after(path: &Path, lines: usize) -> Vec<(String, u64)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env(PLACE, path).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Killed(command.spawn().unwrap());
    let mut output = BufReader::new(child.0.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut line = String::new();
    while said.len() < lines && output.read_line(&mut line).unwrap() > 0 {
        said.extend(parse(&line));
        line.clear();
    }
    drop(child);
    // What it had said before it was killed counts as well; a line that was cut short does not.
    said.extend(
        output
            .lines()
            .map_while(Result::ok)
            .filter(|line| line.ends_with(char::is_numeric))
            .filter_map(|line| parse(&line)),
    );
    said
}

fn parse(line: &str) -> Option<(String, u64)> {
    let (run, seq) = line.trim_end().strip_prefix("told ")?.split_once(' ')?;
    Some((run.to_owned(), seq.parse().ok()?))
}

#[test]
fn what_a_killed_process_was_told_is_there() {
    if let Some(path) = std::env::var_os(PLACE) {
        return work(Path::new(&path));
    }
    let file = File::new();
    let desk = file.open();
    desk.create_each(1..=RUNS, None);
    for round in 1..=ROUNDS {
        let said = killed_after(&file.path(), 40 * round as usize);
        assert!(said.len() >= 40 * round as usize);
        for (run, seq) in said {
            let (row, _) = desk.get(run.parse().unwrap());
            assert!(row.seq >= seq, "{run} has {} records, and it was told of {seq}", row.seq);
            assert_eq!(row.epoch, round, "each goes on where the one before was killed");
        }
    }
    for number in 1..=RUNS {
        let loaded = desk.load(id(number));
        let expected = (2..=loaded.run.seq).map(|seq| format!("{} {seq}", number - 1).into_bytes());
        assert!(loaded.records[1..].iter().cloned().eq(expected));
    }
}
