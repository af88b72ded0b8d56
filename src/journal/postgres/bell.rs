//! Tells other processes that there is news, and hears of theirs.
//!
//! A thread of its own has one connection for both. News is collected for some milliseconds and told in a transaction of
//! its own that waits for no disk: `NOTIFY` in the transaction of a commit would have all commits wait for one lock. What
//! is missed, since a connection was away or there is none that can listen, is found by looking now and then.

use std::collections::{BTreeSet, HashSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::types::Type;

use super::chance::Chance;
use super::fault::Fault;
use super::ledger::Draft;
use super::link::{Around, Link, Sql, Step, step};
use super::place::Place;
use super::rows::Uuid;
use super::tls::Tls;
use crate::hex::Hex;
use crate::journal::{self, Batch, OnBatch};

/// How long news is collected.
const COLLECTED: Duration = Duration::from_millis(8);
/// The least time between two times that the process is told of a change.
const TOLD: Duration = Duration::from_millis(5);
/// How often the bell looks for missed news, where there is a connection that listens.
const LOOKED: Duration = Duration::from_secs(1);
/// The same where there is none; and as much more for each process, so that many do no more together than some.
const LOOKED_ALONE: Duration = Duration::from_millis(25);
const FOR_EACH: Duration = Duration::from_micros(250);
/// More owners than this are told as all of them: a notification has 8000 bytes at most.
const MOST_NAMED: usize = 200;

static ASYNCHRONOUS: Sql = Sql { text: "SELECT set_config('synchronous_commit', 'off', true)", types: &[] };
static COUNT: Sql = Sql {
    text: "INSERT INTO {s}.writers (id, news, seen) VALUES ($1, 1, clock_timestamp()) \
           ON CONFLICT (id) DO UPDATE SET news = writers.news + 1, seen = excluded.seen",
    types: &[Type::UUID],
};
static NOTIFY: Sql = Sql { text: "SELECT pg_notify($1, $2)", types: &[Type::TEXT, Type::TEXT] };
static LOOK: Sql = Sql {
    text: "SELECT coalesce((SELECT sum(news) FROM {s}.writers WHERE id <> $1), 0)::bigint, \
           coalesce((SELECT max(number) FROM {s}.ends), 0), \
           coalesce((SELECT max(number) FROM {s}.inbox WHERE body IS NOT NULL AND dead IS NULL), 0), \
           (SELECT count(*) FROM {s}.owners WHERE id IS NOT NULL)",
    types: &[Type::UUID],
};

/// What of a commit others may have to know.
#[derive(Debug, Default)]
pub(super) struct News {
    /// There is a run that any process may claim, now or later.
    pub(super) has_work: bool,
    /// Something came of a run that others may wait for.
    pub(super) has_told: bool,
    /// Messages were sent to runs of these owners.
    pub(super) mail: BTreeSet<i64>,
}

impl News {
    pub(super) fn tell_of(&mut self, draft: &Draft) {
        let run = &draft.stored;
        self.has_work |= run.is_for_anybody();
        self.has_told |= draft.ends > 0 || !draft.published.is_empty();
        if run.owner != 0 && !draft.sent.is_empty() {
            self.mail.insert(run.owner);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.has_work && !self.has_told && self.mail.is_empty()
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.has_work |= other.has_work;
        self.has_told |= other.has_told;
        self.mail.extend(other.mail);
    }
}

/// The owners of this process, by their numbers.
pub(super) type Owners = Arc<Mutex<HashSet<i64>>>;

/// The thread that tells and hears.
pub(super) struct Bell {
    tell: UnboundedSender<News>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is given.
pub(super) struct Ringing {
    pub(super) place: Arc<Place>,
    pub(super) tls: Tls,
    pub(super) writer: Uuid,
    pub(super) owners: Owners,
    pub(super) on_batch: Arc<OnBatch>,
}

impl Bell {
    pub(super) fn hang(ringing: Ringing) -> std::io::Result<Self> {
        let (tell, told) = unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(Ring::new(ringing).run(told));
        let thread = std::thread::Builder::new().name("treadle-bell".into()).spawn(run)?;
        Ok(Self { tell, thread: Some(thread) })
    }

    pub(super) fn tell(&self, news: News) {
        if !news.is_empty() {
            // The thread ends after this one.
            let _ = self.tell.send(news);
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.tell = unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Ring {
    given: Ringing,
    channel: String,
    can_listen: bool,
    pending: News,
    // When news was told last, the process was told last, and the next look for missed news is due.
    told: Instant,
    rang: Instant,
    look_at: Instant,
    // What the process is to be told.
    heard: journal::News,
    // What looks have found and the process is not told yet, since notifications say most of it.
    found: journal::News,
    seen: Option<[i64; 3]>,
    others: i64,
    chance: Chance,
}

enum Turn {
    Heard(Option<String>),
    Told(Option<News>),
    Time,
}

impl Ring {
    fn new(given: Ringing) -> Self {
        let name = xxhash_rust::xxh3::xxh3_64(given.place.schema.as_bytes());
        let can_listen = given.place.is_prepared || given.place.listen.is_some();
        Self {
            given,
            channel: format!("treadle_{name:016x}"),
            can_listen,
            pending: News::default(),
            told: Instant::now(),
            rang: Instant::now(),
            look_at: Instant::now(),
            heard: journal::News::default(),
            found: journal::News::default(),
            seen: None,
            others: 0,
            chance: Chance::new(),
        }
    }

    async fn run(mut self, mut news: UnboundedReceiver<News>) {
        let mut failures = 0;
        while !news.is_closed() {
            let (heard, hear) = unbounded_channel();
            let open = async {
                let place =
                    self.given.place.listen.as_deref().cloned().map_or_else(|| self.given.place.clone(), Arc::new);
                let link = Link::open(&place, &self.given.tls, Some(heard)).await?;
                if self.can_listen {
                    link.execute(&format!("LISTEN {}", self.channel)).await?;
                }
                Ok::<_, Fault>(link)
            };
            let opened = match select(pin!(open), pin!(closed(&news))).await {
                Either::Left((opened, _)) => opened,
                Either::Right(_) => return,
            };
            if let Ok(link) = opened {
                failures = 0;
                if self.seen.take().is_some() {
                    // What came meanwhile was not heard.
                    self.heard = journal::News::ALL;
                }
                match self.ring(&link, hear, &mut news).await {
                    Ok(()) => return,
                    Err(_) if news.is_closed() => return,
                    // The connection is made anew; what was not told stays.
                    Err(_) => {}
                }
            }
            sleep(self.chance.wait(failures)).await;
            failures += 1;
            self.seen.get_or_insert([-1; 3]);
        }
    }

    async fn ring(
        &mut self,
        link: &Link,
        mut hear: UnboundedReceiver<String>,
        news: &mut UnboundedReceiver<News>,
    ) -> Result<(), Fault> {
        self.look_at = Instant::now();
        loop {
            let turn = self.turn(&mut hear, news).await;
            match turn {
                Turn::Heard(None) => return Err(Fault::Lost("the connection was closed".into())),
                Turn::Heard(Some(payload)) => self.heard |= self.of_others(&payload),
                Turn::Told(Some(news)) => self.pending.merge(news),
                Turn::Told(None) => {
                    return if self.pending.is_empty() { Ok(()) } else { self.tell(link).await };
                }
                Turn::Time => self.act(link).await?,
            }
        }
    }

    async fn turn(&self, hear: &mut UnboundedReceiver<String>, news: &mut UnboundedReceiver<News>) -> Turn {
        let due = [self.tell_at(), self.ring_at(), Some(self.look_at)].into_iter().flatten().min();
        let mut time = pin!(sleep_until(due.unwrap_or(self.look_at)));
        poll_fn(|cx| {
            if let Poll::Ready(heard) = hear.poll_recv(cx) {
                return Poll::Ready(Turn::Heard(heard));
            }
            if let Poll::Ready(told) = news.poll_recv(cx) {
                return Poll::Ready(Turn::Told(told));
            }
            time.as_mut().poll(cx).map(|()| Turn::Time)
        })
        .await
    }

    // At once after a while without news; otherwise what comes in between is collected.
    fn tell_at(&self) -> Option<Instant> {
        (!self.pending.is_empty()).then(|| self.told + COLLECTED)
    }

    fn ring_at(&self) -> Option<Instant> {
        self.heard.is_any().then(|| self.rang + TOLD)
    }

    async fn act(&mut self, link: &Link) -> Result<(), Fault> {
        let now = Instant::now();
        if self.ring_at().is_some_and(|at| at <= now) {
            self.bell();
            self.look(link, false).await
        } else if self.tell_at().is_some_and(|at| at <= now) {
            self.tell(link).await
        } else if self.look_at <= now {
            self.look(link, true).await
        } else {
            Ok(())
        }
    }

    fn bell(&mut self) {
        self.rang = Instant::now();
        let news = std::mem::take(&mut self.heard);
        (self.given.on_batch)(Batch { news, ..Batch::default() });
    }

    async fn tell(&mut self, link: &Link) -> Result<(), Fault> {
        let payload = self.payload();
        let steps =
            [step!(ASYNCHRONOUS), step!(COUNT, self.given.writer), step!(NOTIFY, self.channel.clone(), payload)];
        link.run(&steps, Around::Transaction).await?;
        self.pending = News::default();
        self.told = Instant::now();
        self.look(link, false).await
    }

    // Who tells it, then what of it there is.
    fn payload(&self) -> String {
        let mut payload = Hex(&self.given.writer.0).to_string();
        if self.pending.has_work {
            payload.push_str(" w");
        }
        if self.pending.has_told {
            payload.push_str(" t");
        }
        if self.pending.mail.len() > MOST_NAMED {
            payload.push_str(" m*");
        } else {
            self.pending.mail.iter().for_each(|owner| payload.push_str(&format!(" m{owner}")));
        }
        payload
    }

    // What a payload says, unless this process told it.
    fn of_others(&self, payload: &str) -> journal::News {
        let mut news = journal::News::default();
        let mut words = payload.split(' ');
        if words.next() == Some(&*Hex(&self.given.writer.0).to_string()) {
            return news;
        }
        let owners = self.given.owners.lock().unwrap_or_else(PoisonError::into_inner);
        for word in words {
            match (word, word.strip_prefix('m')) {
                ("w", _) => news.work = true,
                ("t", _) => (news.ends, news.other) = (true, true),
                (_, Some(owner)) => news.inbox |= owner.parse().map_or(true, |owner: i64| owners.contains(&owner)),
                // A newer version tells more.
                _ => news = journal::News::ALL,
            }
        }
        news
    }

    // Finds what changed since the last look. Where notifications come, most of it is this process's own or is heard
    // anyway, so it is told when a look is due; but it is told, since a process may end after its commit and before it
    // notifies.
    async fn look(&mut self, link: &Link, is_due: bool) -> Result<(), Fault> {
        let rows = link.run(&[step!(LOOK, self.given.writer)], Around::Snapshot).await?;
        let row = &rows[0][0];
        let now = [row.get(0), row.get(1), row.get(2)];
        self.others = row.get(3);
        if let Some(before) = self.seen.replace(now).filter(|before| *before != now) {
            let has_changed = before[0] != now[0];
            let (ends, inbox) = (before[1] != now[1], before[2] != now[2]);
            self.found |=
                journal::News { inbox: inbox || has_changed, ends: ends || has_changed, work: true, other: true };
        }
        if self.can_listen && !is_due {
            return Ok(());
        }
        self.heard |= std::mem::take(&mut self.found);
        let pause = match self.can_listen {
            true => LOOKED,
            false => LOOKED_ALONE.max(FOR_EACH * u32::try_from(self.others).unwrap_or(0)),
        };
        self.look_at = Instant::now() + self.chance.about(pause);
        Ok(())
    }
}

async fn closed(news: &UnboundedReceiver<News>) {
    while !news.is_closed() {
        sleep(Duration::from_millis(50)).await;
    }
}
