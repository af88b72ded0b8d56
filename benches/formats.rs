//! Benches of what is written down: `cargo bench --bench formats`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use treadle::journal::record;
use treadle::{Body, EncodedEvent, EncodedImage, EncodedRecord, Record, RunId, Secrets, StepId, Tag, Value, snapshot};

fn secrets() -> Secrets {
    Secrets::new(["a secret of sixteen bytes at least"]).unwrap()
}

fn image() -> EncodedImage {
    EncodedImage::new(RunId::new(1, [1; 10]), "crawl", vec!["fetch".into()], 5, None)
}

fn keys(value: impl Fn(usize) -> Value) -> EncodedImage {
    let mut image = image();
    for number in 0..10_000 {
        image.state.set(&format!("key {number}"), value(number));
    }
    image
}

fn page(value: Value) -> EncodedEvent {
    let fields = vec![("url".into(), value), ("depth".into(), Value::new(Tag::Json, "3"))];
    EncodedEvent { class: "Page".into(), body: Body::Fields(fields) }
}

fn url() -> Value {
    Value::new(Tag::Json, r#""https://example.org/a/page""#)
}

fn both_ways(c: &mut Criterion, name: &str, image: &EncodedImage, secrets: &Secrets, throughput: Throughput) {
    let mut group = c.benchmark_group(format!("snapshot of {name}"));
    group.throughput(throughput);
    group.bench_function("seal", |b| b.iter(|| snapshot::seal(black_box(image), secrets)));
    let bytes = Bytes::from(snapshot::seal(image, secrets).unwrap());
    group.bench_function("open", |b| b.iter(|| snapshot::open(black_box(bytes.clone()), secrets)));
    group.bench_function("inspect", |b| b.iter(|| snapshot::read_unverified(black_box(bytes.clone()))));
    group.bench_function("memcpy", |b| b.iter(|| black_box(&bytes[..]).to_vec()));
    group.finish();
}

fn snapshots(c: &mut Criterion) {
    let none = Secrets::none();
    let each = Throughput::Elements(10_000);
    let json = keys(|number| Value::new(Tag::Json, number.to_string()));
    both_ways(c, "10,000 keys", &json, &none, each.clone());
    both_ways(c, "10,000 keys, signed", &json, &secrets(), each.clone());
    let opaque = keys(|number| Value::opaque("Profile", format!("a pickled profile {number}")));
    both_ways(c, "10,000 opaque keys, signed", &opaque, &secrets(), each.clone());
    let mut events = image();
    events.delivered = 10_000;
    for seq in 1..=10_000 {
        let event = page(url());
        let replay = Default::default();
        let pending = treadle::Pending { step: StepId(0), attempt: 1, due: None, since: None, event, replay };
        events.pending.insert(seq, pending);
    }
    both_ways(c, "10,000 events", &events, &none, each);
    const LARGE: usize = 100_000_000;
    let bytes = Throughput::Bytes(LARGE as u64);
    let mut large = image();
    large.state.set("page", Value::new(Tag::Binary, vec![7; LARGE]));
    both_ways(c, "100 MB", &large, &none, bytes.clone());
    both_ways(c, "100 MB, signed", &large, &secrets(), bytes.clone());
    let mut text = image();
    text.state.set("page", Value::new(Tag::Json, format!("[{}0]", "\"a text\",12345,".repeat(LARGE / 15))));
    both_ways(c, "100 MB of JSON", &text, &none, bytes);
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    let run = RunId::new(1, [1; 10]);
    let set = |value| Record::Set { key: "user_id".into(), value };
    let queued = Record::Queued { seq: 7, step: StepId(1), event: page(url()) };
    let records: [(&str, EncodedRecord); 5] = [
        ("finished", Record::Finished { seq: 7, at: 1 }),
        ("set a small value", set(url())),
        ("set an opaque value", set(Value::opaque("Profile", &b"a pickled profile"[..]))),
        ("set 1 MB", set(Value::new(Tag::Binary, vec![7; 1_000_000]))),
        ("queued", queued),
    ];
    let secrets = secrets();
    for (name, record) in &records {
        group.bench_function(format!("encode: {name}"), |b| {
            b.iter(|| record::encode(run, 7, black_box(record), &secrets));
        });
        let bytes = record::encode(run, 7, record, &secrets).unwrap();
        group.bench_function(format!("decode: {name}"), |b| {
            b.iter(|| record::decode(run, 7, black_box(bytes.clone()), &secrets));
        });
    }
    group.finish();
}

criterion_group! {
    name = formats;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800)).sample_size(10);
    targets = snapshots, records
}
criterion_main!(formats);
