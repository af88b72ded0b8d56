//! What of a run is written, and when: with a real run and a journal in memory.

mod contents;
mod creation;
mod due;
mod ends;
mod host;
mod making;
mod property;

use treadle::writer::{Durability, Flush, Occurrence};
use treadle::{Tag, Value};

use host::{Host, Options};

fn value(byte: u8) -> Value {
    Value::new(Tag::Binary, vec![byte])
}

/// A run whose first step is in flight, of which all is written.
fn begun(options: Options) -> Host {
    let mut host = Host::new(options);
    host.flush();
    host.hear_all();
    host.run.start_next(|| 0).expect("its event is queued, and that is written");
    mark(&mut host, Occurrence::Sent);
    host.flush();
    host.hear_all();
    host
}

fn mark(host: &mut Host, what: Occurrence) -> Flush {
    host.writer.mark(what, &host.run, true)
}

fn pipelined() -> Options {
    Options { durability: Durability::Pipelined, ..Options::default() }
}
