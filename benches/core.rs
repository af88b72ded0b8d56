//! Benches of the core, a group a room. They need no Python: `cargo bench --bench core`.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use treadle::{
    Collected, Collecting, Delivery, EventKind, Host, HostImage, HostRecord, Image, JsonWriter, Plan, Queue, Routes,
    Run, RunId, Slot, StepId, StepPlan, Store, Stream, Tag, Timers, Value,
};

/// A host whose events and values cost nothing of their own.
struct Guest;

impl Host for Guest {
    type Event = u64;
    type Value = Value;
    type Class = u32;
    type Waiter = u64;

    fn copy_event(event: &u64) -> u64 {
        *event
    }

    fn copy_value(value: &Value) -> Value {
        value.clone()
    }

    fn copy_waiter(waiter: &u64) -> u64 {
        *waiter
    }

    fn is_same_event(one: &u64, other: &u64) -> bool {
        one == other
    }
}

fn run_of(steps: Vec<StepPlan>) -> Run<Guest> {
    let mut routes = Routes::default();
    for at in (0..).take(steps.len()) {
        routes.add([StepId(at)]);
    }
    let plan = Plan { steps, routes, stream_limit: 65_536, ..Plan::default() };
    Run::new(RunId::new(0, [0; 10]), Arc::new(plan), 0)
}

fn small_dict(json: &mut JsonWriter) {
    json.begin_dict();
    json.key("a");
    json.int(1);
    json.key("b");
    json.begin_list();
    (1..=3).for_each(|number| json.int(number));
    json.end_list();
    json.key("c");
    json.str("hello");
    json.end_dict();
}

fn dict_of_small_dicts(json: &mut JsonWriter) {
    json.begin_dict();
    for number in 0..200_i64 {
        json.key("a key of it");
        json.begin_dict();
        json.key("id");
        json.int(number);
        json.key("name");
        json.str("a name of it");
        json.key("score");
        json.float(number as f64 * 0.37);
        json.key("active");
        json.bool(number % 2 == 0);
        json.key("next");
        json.null();
        json.end_dict();
    }
    json.end_dict();
}

fn value(c: &mut Criterion) {
    let mut group = c.benchmark_group("value");
    let mut json = JsonWriter::default();
    let mut bench = |name: &str, write: &dyn Fn(&mut JsonWriter)| {
        write(&mut json);
        group.throughput(Throughput::Bytes(json.as_str().len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                json.reset(usize::MAX);
                write(&mut json);
                black_box(json.as_str().len())
            });
        });
        json.reset(usize::MAX);
    };
    bench("encode a small dict", &small_dict);
    bench("encode 1,200 values", &dict_of_small_dicts);
    bench("encode 10,000 ints", &|json| (0..10_000).for_each(|number| json.int(number * 7)));
    let plain = "a plain text ".repeat(1 << 16);
    bench("encode a string of 850 KB", &|json| json.str(&plain));
    let quoted = "a \"text\" of lines\n".repeat(1 << 16);
    bench("encode a string of 1.2 MB with escapes", &|json| json.str(&quoted));
    group.finish();
}

fn store(c: &mut Criterion) {
    let mut group = c.benchmark_group("store");
    let value = Value::new(Tag::Json, b"1".as_slice());
    for count in [1, 100, 10_000] {
        let keys: Vec<_> = (0..count).map(|number| format!("key {number}")).collect();
        let mut store = Store::default();
        for key in &keys {
            store.set(key, value.clone());
        }
        let mut next = keys.iter().cycle();
        group.bench_function(BenchmarkId::new("get", count), |b| {
            b.iter(|| store.get(black_box(next.next()?)).map(|value| value.tag));
        });
        group.bench_function(BenchmarkId::new("set", count), |b| {
            b.iter(|| store.set(black_box(next.next()?), value.clone()));
        });
        group.bench_function(BenchmarkId::new("delete and set", count), |b| {
            b.iter(|| {
                let key = next.next()?;
                let value = store.delete(black_box(key))?;
                store.set(key, value)
            });
        });
        group.bench_function(BenchmarkId::new("set each in a new store", count), |b| {
            b.iter_batched_ref(Store::default, |store| fill(store, &keys, &value), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn fill(store: &mut Store<Value>, keys: &[String], value: &Value) {
    for key in keys {
        store.set(key, value.clone());
    }
}

fn event(c: &mut Criterion) {
    let mut group = c.benchmark_group("routes");
    let mut routes = Routes::default();
    let kinds: Vec<_> = (0..64).map(|step| routes.add([StepId(step), StepId(step + 1)])).collect();
    let mut next = kinds.iter().cycle();
    group.bench_function("steps of a kind", |b| {
        b.iter(|| next.next().map(|&kind| routes.steps(black_box(kind)).len()));
    });
    group.finish();
}

fn queue(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue");
    for (name, limit) in [("without limits", None), ("with a limit of 8", NonZeroU32::new(8))] {
        let mut queue: Queue<u64> = Queue::new([limit, None].into_iter());
        // Some are always there.
        for seq in 0..100 {
            queue.push(Delivery::new(seq, StepId(0), seq));
        }
        group.bench_function(BenchmarkId::new("pop, release and push", name), |b| {
            b.iter(|| {
                let delivery = queue.pop()?;
                queue.release(delivery.step);
                queue.push(black_box(delivery));
                Some(())
            });
        });
    }
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10,000 collected and given", |b| {
        let expected = vec![7_u32; 10_000];
        b.iter(|| {
            let mut collected = Collected::new(expected.clone());
            (0..10_000_u64).filter_map(|event| collected.add(7, event).ok()?).map(|all| all.len()).sum::<usize>()
        });
    });
    group.finish();
}

fn stream(c: &mut Criterion) {
    let mut group = c.benchmark_group("stream");
    let mut stream = Stream::new(65_536);
    let mut number = 0_u64;
    group.bench_function("publish and read", |b| {
        b.iter(|| {
            number += 1;
            black_box(stream.publish(number));
            black_box(stream.read(number - 1));
        });
    });
    group.finish();
}

fn timers(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers");
    for count in [0, 10_000] {
        let mut timers = Timers::default();
        let mut now = 0;
        for at in 0..count {
            timers.add(at, at);
        }
        group.bench_function(BenchmarkId::new("add and cancel, others", count), |b| {
            b.iter(|| {
                now += 1;
                let id = timers.add(now + 1_000_000, now);
                timers.cancel(black_box(id))
            });
        });
        timers.clear();
        (0..count).for_each(|at| {
            timers.add(at, at);
        });
        now = count;
        group.bench_function(BenchmarkId::new("add and expire, others", count), |b| {
            b.iter(|| {
                timers.add(now, now);
                now += 1;
                timers.expire(black_box(now))
            });
        });
    }
    group.finish();
}

/// One step of a chain: its event is delivered, it starts, it finishes.
fn chain_step(run: &mut Run<Guest>) -> Option<u64> {
    run.deliver(black_box(EventKind(0)), 1).ok()?;
    let started = run.start_next(|| 0)?;
    run.event(started.slot).copied()?;
    run.finish_step(started.slot).map(|delivery| delivery.event)
}

fn fan_out(run: &mut Run<Guest>, count: u64) -> u64 {
    let mut sum = 0;
    for event in 0..count {
        let _ = run.deliver(EventKind(0), event);
    }
    while let Some(started) = run.start_next(|| 0) {
        sum += run.finish_step(started.slot).map_or(0, |delivery| delivery.event);
    }
    sum
}

fn fan_out_all_at_once(run: &mut Run<Guest>, count: u64) -> u64 {
    for event in 0..count {
        let _ = run.deliver(EventKind(0), event);
    }
    let started: Vec<_> = std::iter::from_fn(|| run.start_next(|| 0)).collect();
    started.iter().filter_map(|started| run.finish_step(started.slot)).map(|delivery| delivery.event).sum()
}

fn run(c: &mut Criterion) {
    let mut group = c.benchmark_group("run");
    let plain = StepPlan::default();
    let limited = StepPlan { concurrency: NonZeroU32::new(8), ..StepPlan::default() };
    let timed = StepPlan { timeout: Some(1_000_000), ..StepPlan::default() };
    for (name, step) in [("plain", &plain), ("with a limit of 8", &limited), ("with a timeout", &timed)] {
        let mut run = run_of(vec![step.clone()]);
        group.bench_function(BenchmarkId::new("a step of a chain", name), |b| b.iter(|| chain_step(&mut run)));
    }
    let plan = Arc::clone(run_of(vec![plain.clone()]).plan());
    group.bench_function("new, three steps, over", |b| {
        b.iter(|| {
            let mut run: Run<Guest> = Run::new(RunId::new(0, [0; 10]), Arc::clone(black_box(&plan)), 0);
            for _ in 0..3 {
                chain_step(&mut run);
            }
            drop(run.begin_end());
            run.try_end()
        });
    });
    for count in [100, 10_000, 100_000] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("fan out, one at a time", count), |b| {
            b.iter_batched_ref(|| run_of(vec![plain.clone()]), |run| fan_out(run, count), BatchSize::LargeInput);
        });
        group.bench_function(BenchmarkId::new("fan out, all at once", count), |b| {
            b.iter_batched_ref(
                || run_of(vec![plain.clone()]),
                |run| fan_out_all_at_once(run, count),
                BatchSize::LargeInput,
            );
        });
    }
    // The cost of one event must not grow with what is waited for, or with groups that were gathered before.
    group.throughput(Throughput::Elements(1));
    for count in [0, 10_000] {
        let mut run = run_of(vec![plain.clone()]);
        let slot = a_slot(&mut run);
        for waiter in 0..count {
            let _ = run.wait(slot, waiter, Some(1), Some(waiter));
        }
        group.bench_function(BenchmarkId::new("wait and its end, others", count), |b| {
            b.iter(|| {
                let id = run.wait(slot, black_box(7), Some(1), Some(1_000_000)).ok()?;
                run.end_wait(id).map(|over| over.waiter)
            });
        });
    }
    for count in [100, 10_000] {
        let mut run = run_of(vec![plain.clone()]);
        let slot = a_slot(&mut run);
        let mut ids: Vec<_> = (0..count).filter_map(|waiter| run.wait(slot, waiter, Some(1), None).ok()).collect();
        let mut random = 1_usize;
        group.bench_function(BenchmarkId::new("a wait in any place ends, others", count), |b| {
            b.iter(|| {
                // Any but a fixed round, which would always end the oldest one.
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (random >> 33) % ids.len();
                run.end_wait(ids[at])?;
                ids[at] = run.wait(slot, black_box(7), Some(1), None).ok()?;
                Some(())
            });
        });
    }
    for count in [0, 1_000, 10_000] {
        let mut run = run_of(vec![plain.clone()]);
        for number in 0..count {
            collect_pair(&mut run, &format!("order {number}"));
        }
        group.bench_function(BenchmarkId::new("collect a pair, groups before", count), |b| {
            b.iter(|| collect_pair(&mut run, black_box("an order")));
        });
    }
    group.finish();
}

/// What a run costs that is tried again, put down and gone on with.
fn restart(c: &mut Criterion) {
    let mut group = c.benchmark_group("restart");
    let plain = StepPlan::default();
    let mut retried = run_of(vec![plain.clone()]);
    group.bench_function("a step that fails once", |b| b.iter(|| fail_once(&mut retried)));
    let mut run = run_of(vec![plain.clone()]);
    let value = Value::new(Tag::Json, &b"1"[..]);
    for number in 0..10_000 {
        let _ = run.set(&format!("key {number}"), value.clone());
    }
    let _ = run.deliver(EventKind(0), 1);
    let plan = Arc::clone(run.plan());
    group.throughput(Throughput::Elements(10_000));
    group.bench_function(BenchmarkId::new("image, keys", 10_000), |b| b.iter_with_large_drop(|| run.image()));
    group.bench_function(BenchmarkId::new("restore, keys", 10_000), |b| {
        let restore = |image| Run::<Guest>::restore(image, Arc::clone(&plan));
        b.iter_batched(|| run.image(), restore, BatchSize::LargeInput);
    });
    let mut run = run_of(vec![plain]);
    let empty = run.image();
    run.start_log();
    run.acknowledge(u64::MAX);
    for number in 0..2_000 {
        let _ = run.set(&format!("key {}", number % 100), value.clone());
        chain_step(&mut run);
    }
    let records = run.take_log();
    group.throughput(Throughput::Elements(records.len() as u64));
    group.bench_function("apply a record", |b| {
        let new = || (Image::new(empty.id, "", empty.steps.clone(), 0, None), records.clone());
        b.iter_batched(new, |(image, records)| fold(image, records), BatchSize::LargeInput);
    });
    group.finish();
}

fn fail_once(run: &mut Run<Guest>) -> Option<u64> {
    run.deliver(black_box(EventKind(0)), 1).ok()?;
    let started = run.start_next(|| 0)?;
    run.retry(started.slot, "no".into(), 10).ok()?;
    run.expire(10)?;
    let started = run.start_next(|| 10)?;
    run.finish_step(started.slot).map(|delivery| delivery.event)
}

fn fold(mut image: HostImage<Guest>, records: Vec<HostRecord<Guest>>) -> HostImage<Guest> {
    for record in records {
        image.apply(record).expect("a run records what is possible");
    }
    image
}

/// A step in flight.
fn a_slot(run: &mut Run<Guest>) -> Slot {
    let _ = run.deliver(EventKind(0), 1);
    run.start_next(|| 0).expect("it is ready").slot
}

/// Two steps that each add an event to a group, which the second one completes.
fn collect_pair(run: &mut Run<Guest>, key: &str) -> usize {
    let mut add = |event| {
        let slot = a_slot(run);
        let call = Collecting { slot, step: StepId(0), key: Some(key), event };
        let answer = run.collect(call, |classes| classes == [1, 1], |_| Some(1), || [1, 1].into());
        run.finish_step(slot);
        answer.ok().and_then(|gathered| gathered.events).map_or(0, |events| events.len())
    };
    add(1) + add(2)
}

criterion_group! {
    name = core;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1000)).sample_size(30);
    targets = value, store, event, queue, stream, timers, run, restart
}
criterion_main!(core);
