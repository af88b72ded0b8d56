//! Journals by their URLs.

use treadle::journal::{Address, AddressError, KeptSecret, OpenOptions};

#[test]
fn a_url_that_no_backend_knows_is_refused_with_those_that_are_known() {
    for url in ["", "postgres", "file:///runs.db", "memory:runs", "MEMORY:"] {
        let error = Address::parse(url).unwrap_err();
        let AddressError::Unknown { known, .. } = &error else { panic!("{error:?}") };
        assert!(known.iter().any(|form| form.contains("memory:")), "{error}");
        assert!(error.to_string().contains("memory:") && error.to_string().contains(&format!("{url:?}")), "{error}");
    }
}

#[test]
fn an_error_shows_no_password() {
    let error = Address::parse("mysql://user:secret@host/runs").unwrap_err();
    assert!(error.to_string().contains("mysql:") && !error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_journal_in_memory_is_opened_by_its_url() {
    let opened = Address::parse("memory:").unwrap().open(OpenOptions::default(), Box::new(|_| {})).unwrap();
    assert!(opened.secret == KeptSecret::Anything);
    opened.journal.close();
}

#[test]
fn a_parameter_that_the_backend_has_not_is_refused_with_those_that_it_has() {
    let error = Address::parse("memory:?size=3").unwrap_err();
    assert!(matches!(&error, AddressError::UnknownParameter { name, known, .. } if name == "size" && known.is_empty()));
    assert!(error.to_string().contains("none"), "{error}");
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;

    #[test]
    fn a_file_needs_a_path() {
        for url in ["sqlite:///", "sqlite:///?busy_timeout=1", "sqlite:runs.db"] {
            let error = Address::parse(url).unwrap_err();
            assert!(error.to_string().contains("sqlite:///PATH"), "{error}");
        }
    }

    #[test]
    fn parameters_are_checked_and_named() {
        let refused = |query: &str| Address::parse(&format!("sqlite:///runs.db?{query}")).unwrap_err();
        let unknown = refused("busy_timeout=1&timeout=3");
        assert!(
            unknown.to_string().contains("\"timeout\"") && unknown.to_string().contains("busy_timeout"),
            "{unknown}"
        );
        assert_eq!(refused("busy_timeout=1&busy_timeout=1"), AddressError::Twice { name: "busy_timeout" });
        for value in ["", "-1", "soon", "nan", "1e300"] {
            let error = refused(&format!("busy_timeout={value}"));
            assert!(matches!(&error, AddressError::Value { name: "busy_timeout", .. }), "{value}: {error}");
        }
    }

    #[test]
    fn the_parameters_are_behind_the_last_question_mark() {
        let path = |url: &str| Address::parse(url).unwrap().path().unwrap().to_str().unwrap().to_owned();
        assert_eq!(path("sqlite:///a/b%20 c#.db"), "a/b%20 c#.db");
        assert_eq!(path("sqlite:////a.db?busy_timeout=0.5"), "/a.db");
        assert_eq!(path("sqlite:///what?.db?"), "what?.db");
    }

    #[test]
    fn a_file_keeps_a_secret_unless_one_is_given() {
        let place = tempfile::tempdir().unwrap();
        let address = Address::parse(&format!("sqlite:///{}", place.path().join("runs.db").display())).unwrap();
        let open = |options| {
            let opened = address.open(options, Box::new(|_| {})).unwrap();
            opened.journal.close();
            opened.secret
        };
        assert!(open(OpenOptions { has_secret: true, ..OpenOptions::default() }) == KeptSecret::Nothing);
        assert!(open(OpenOptions { only_looks: true, ..OpenOptions::default() }) == KeptSecret::Nothing);
        let KeptSecret::Secret(made) = open(OpenOptions::default()) else { panic!("a file keeps a secret") };
        assert!(open(OpenOptions { only_looks: true, ..OpenOptions::default() }) == KeptSecret::Secret(made));
    }
}
