//! What is no journal is refused with a word on what to do, and left as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use treadle::journal::sqlite::{self, APPLICATION_ID, Fault, Options, VERSION};
use treadle::journal::{JournalError, Reply, Request};

use super::super::desk::*;

fn refusal(path: &Path) -> JournalError {
    let options = Options { patience: Duration::from_millis(200), ..Options::default() };
    let error = sqlite::open(path, &options, Box::new(|_| {})).err().expect("an error");
    assert!(error.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
    error
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runs.db");
    (directory, path)
}

#[test]
fn a_new_file_is_made_and_knows_what_it_is() {
    let file = File::new();
    file.open().journal.close();
    let connection = Connection::open(file.path()).unwrap();
    let ask = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(ask("PRAGMA application_id"), APPLICATION_ID);
    assert_eq!(ask("PRAGMA user_version"), VERSION);
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn those_that_make_it_at_once_agree() {
    for _ in 0..5 {
        let file = File::new();
        thread::scope(|scope| {
            for number in 1..=6 {
                let file = &file;
                scope.spawn(move || file.open().create(run(number), None, commit(&["a"])));
            }
        });
        assert_eq!(file.open().list(treadle::journal::Filter { limit: 9, ..Default::default() }).len(), 6);
    }
}

#[test]
fn any_path_names_a_file() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["file:x?mode=memory", "a b%20#.db", ":memory:", "über.db"] {
        let path = directory.path().join(name);
        sqlite::open(&path, &Options::default(), Box::new(|_| {})).unwrap().close();
        assert!(path.is_file(), "{name}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (_directory, path) = place();
    for content in [b"hello, world, this is no database".to_vec(), vec![7; 10_000], b"x".to_vec()] {
        fs::write(&path, &content).unwrap();
        assert_eq!(refusal(&path), Fault::NotADatabase.at(&path));
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn the_database_of_another_application_is_refused_and_left_alone() {
    let (_directory, path) = place();
    for set in ["CREATE TABLE t (a)", "PRAGMA user_version = 3", "PRAGMA application_id = 77"] {
        drop(fs::remove_file(&path));
        Connection::open(&path).unwrap().execute_batch(set).unwrap();
        let content = fs::read(&path).unwrap();
        assert_eq!(refusal(&path), Fault::Foreign.at(&path));
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_newer_schema_is_refused() {
    let file = File::new();
    file.open().journal.close();
    let newer = format!("PRAGMA user_version = {}", VERSION + 1);
    Connection::open(file.path()).unwrap().execute_batch(&newer).unwrap();
    let error = refusal(&file.path());
    assert_eq!(error, Fault::NewerSchema { found: VERSION + 1, known: VERSION }.at(&file.path()));
    assert!(error.to_string().contains("upgrade"), "{error}");
}

#[test]
fn a_directory_is_refused() {
    let (directory, _) = place();
    let path = directory.path().to_owned();
    assert_eq!(refusal(&path), Fault::IsDirectory.at(&path));
}

#[test]
fn a_missing_directory_is_named() {
    let (directory, _) = place();
    let missing = directory.path().join("missing");
    let error = sqlite::open(&missing.join("runs.db"), &Options::default(), Box::new(|_| {})).err();
    assert_eq!(error, Some(Fault::NoDirectory.at(&missing)));
}

#[test]
fn a_damaged_file_is_refused_or_fails_but_never_gives_something_wrong() {
    let file = File::new();
    let desk = file.open();
    desk.create_each(1..=50, None);
    desk.journal.close();
    let mut content = fs::read(file.path()).unwrap();
    let pages = content.len() / 4096;
    assert!(pages > 8);
    content[2 * 4096..].fill(0x5a);
    fs::write(file.path(), content).unwrap();
    let error = match sqlite::open(&file.path(), &Options::default(), Box::new(|_| {})) {
        Err(error) => error,
        Ok(journal) => {
            drop(journal);
            file.open().ask(Request::Get { run: id(1) }).unwrap_err()
        }
    };
    assert!(is_unusable(&error, "is damaged"), "{error:?}");
}

#[test]
fn a_locked_database_is_waited_for_and_then_named() {
    let mut file = File::new();
    file.options.patience = Duration::from_millis(100);
    let desk = file.open();
    let other = Connection::open(file.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = Instant::now();
    let create = || Request::Create { run: run(1), owner: None, commit: commit(&["a"]) };
    assert!(desk.ask(create()).is_err_and(|error| error.is_transient()));
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert_eq!(desk.list(treadle::journal::Filter { limit: 9, ..Default::default() }), [], "reading goes on");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(desk.ask(create()), Ok(Reply::Created { epoch: 0 }), "it has broken nothing");
}

#[test]
fn a_file_that_another_process_has_for_itself_is_refused() {
    let file = File::new();
    file.open().journal.close();
    let other = Connection::open(file.path()).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT").unwrap();
    assert!(refusal(&file.path()).is_transient());
}

/// Says `refused` for what cannot be written; started by the test below where that runs as root, for whom nothing
/// is read-only.
#[cfg(unix)]
#[test]
fn what_is_read_only_is_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    const NAME: &str = "journal::sqlite::opening::what_is_read_only_is_refused";
    const PLACE: &str = "TREADLE_TEST_READ_ONLY";
    if let Some(place) = std::env::var_os(PLACE) {
        return for_somebody_without_rights(Path::new(&place));
    }
    let directory = tempfile::tempdir().unwrap();
    let readable = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let file = directory.path().join("runs.db");
    sqlite::open(&file, &Options::default(), Box::new(|_| {})).unwrap().close();
    readable(&file, 0o444);
    readable(directory.path(), 0o555);
    let is_root = fs::metadata(directory.path()).unwrap().uid() == 0;
    if !is_root {
        for_somebody_without_rights(directory.path());
    } else {
        let program = directory.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        readable(&program, 0o555);
        let mut child = std::process::Command::new(&program);
        child.args(["--exact", NAME]).env(PLACE, directory.path()).current_dir("/").uid(65534).gid(65534);
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
    readable(directory.path(), 0o755);
}

#[cfg(unix)]
fn for_somebody_without_rights(directory: &Path) {
    for name in ["runs.db", "new.db"] {
        let path = directory.join(name);
        let error = refusal(&path);
        assert!(is_unusable(&error, "cannot be written"), "{error:?}");
        assert!(error.to_string().contains("writable"), "{error}");
    }
    let look = sqlite::look(&directory.join("runs.db"), &Options::default(), Box::new(|_| {}));
    look.expect("looking takes no rights to write").close();
    let secret = sqlite::secret::secret(&directory.join("new.db")).unwrap_err();
    assert!(is_unusable(&secret, "cannot be written"), "{secret:?}");
}
