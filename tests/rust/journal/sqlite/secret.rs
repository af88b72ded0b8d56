//! The file that holds the key of signatures.

use std::collections::HashSet;
use std::fs;
use std::thread;

use treadle::journal::sqlite::Fault;
use treadle::journal::sqlite::secret::{path, secret};

#[test]
fn a_secret_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("runs.db");
    let made = secret(&database).unwrap();
    assert_eq!(secret(&database), Ok(made));
    assert_eq!(fs::read(path(&database)).unwrap(), made);
    assert_ne!(secret(&directory.path().join("other.db")).unwrap(), made);
    assert_eq!(path(&database), directory.path().join("runs.db.secret"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left there");
}

#[test]
fn those_that_make_it_at_once_agree() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let database = directory.path().join(round.to_string());
        let made: HashSet<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| secret(&database).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(made.len(), 1);
    }
}

#[cfg(unix)]
#[test]
fn one_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("runs.db");
    secret(&database).unwrap();
    let file = path(&database);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o660, 0o601] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let error = secret(&database).unwrap_err();
        assert_eq!(error, Fault::SecretExposed { mode }.at(&file));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    secret(&database).unwrap();
}

#[test]
fn one_of_another_length_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("runs.db");
    secret(&database).unwrap();
    for length in [0, 31, 33, 1000] {
        fs::write(path(&database), vec![1; length as usize]).unwrap();
        assert_eq!(secret(&database), Err(Fault::SecretMalformed { length }.at(&path(&database))));
    }
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert_eq!(secret(&missing.join("runs.db")), Err(Fault::NoDirectory.at(&missing)));
}
