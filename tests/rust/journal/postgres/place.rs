//! URLs.

use treadle::journal::postgres::Place;

fn parse(url: &str) -> Result<Place, String> {
    let variables = [("USER", "anna"), ("PGPASSWORD", "from the environment"), ("PGHOST", "there")];
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Place::parse_with(url, variable).map_err(|error| error.to_string())
}

#[test]
fn a_url_says_where_the_database_is() {
    for (url, place) in [
        ("postgresql://me:secret@db.example.org:5433/runs", "postgresql://db.example.org:5433/runs (schema treadle)"),
        ("postgres://me@a:1,b:2/runs?schema=x%20y", "postgresql://a:1,b:2/runs (schema x y)"),
        ("postgresql://", "postgresql://there:5432/anna (schema treadle)"),
        ("postgresql:///runs?host=/tmp&port=6000", "postgresql:///tmp:6000/runs (schema treadle)"),
        ("postgresql://me@[::1]:7/", "postgresql://[::1]:7/me (schema treadle)"),
        ("postgresql://me:p%40%3A%2F@h/d?sslmode=verify-full&prepare=false", "postgresql://h:5432/d (schema treadle)"),
    ] {
        assert_eq!(parse(url).map(|place| place.to_string()), Ok(place.to_owned()), "{url}");
    }
}

#[test]
fn no_text_shows_a_password() {
    let place = parse("postgresql://me:hunter2@h/d?listen=postgresql://me:hunter3@h/d").unwrap();
    for text in [format!("{place}"), format!("{place:?}"), format!("{place:#?}")] {
        assert!(!text.contains("hunter") && !text.contains("environment"), "{text}");
    }
    for url in ["postgresql://me:hunter2@h:port/d", "postgresql://me:hunter2%zz@h/d", "mysql://me:hunter2@h/d"] {
        let error = parse(url).unwrap_err();
        assert!(!error.contains("hunter"), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_url_is_said() {
    for (url, said) in [
        ("sqlite:///runs.db", "a URL of PostgreSQL begins with postgresql://"),
        ("postgresql://h/d?sslmod=require", "there is no parameter \"sslmod\""),
        ("postgresql://h/d?sslmode=yes", "sslmode: one of disable"),
        ("postgresql://h:0/d", "port: a number from 1 to 65535 expected"),
        ("postgresql://h/d?patience=0", "patience: seconds expected, more than 0"),
        ("postgresql://h/d?prepare=maybe", "prepare: true or false expected"),
        ("postgresql://h/d?schema=", "schema: a name of 1 to 63 bytes expected"),
        ("postgresql://h/d?listen=h", "listen: a URL of PostgreSQL begins with"),
        ("postgresql://a:1,b:2/d?port=1,2,3", "port: one, or one for each host"),
        ("postgresql://h/d#x", "a URL has no #"),
        ("postgresql://h/%ff", "database: % is followed by"),
        ("postgresql://h/a%00b", "database: it has a zero byte"),
        ("postgresql://h/d?schema", "a parameter is NAME=VALUE"),
    ] {
        let error = parse(url).unwrap_err();
        assert!(error.contains(said), "{url}: {error}");
    }
}
