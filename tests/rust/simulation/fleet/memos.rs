//! Calls that the bodies of a fleet make once. Each takes a while, in which its process may end.

use std::collections::BTreeMap;

use treadle::writer::Occurrence;
use treadle::{EncodedImage, Kept, Memo, MemoCall, Once, Strand, Tag, Time, Value, family};

use super::bugs::Bug;
use super::children::signer;
use super::execution::Execution;
use crate::simulation::ledger::Call;

/// What is known of the calls of each delivery, in their order: the call, and what it gave.
pub type Memos = BTreeMap<u64, Vec<(Call, u64)>>;

/// A memo that a body has seen: of which delivery, which one of its memos, and the memo.
pub type Seen = (u64, usize, (Call, u64));

/// The memos that a journal has of a run.
pub fn memos_of(image: &EncodedImage) -> Memos {
    let of = |(&seq, pending): (&u64, &treadle::Pending<_, _>)| {
        (seq, pending.replay.memos.iter().filter_map(|(_, memo)| value_of(&memo.kept)).map(read).collect())
    };
    image.pending.iter().map(of).collect()
}

/// What a call gave; nothing of one that started a child.
fn value_of(kept: &Kept<Value>) -> Option<&Value> {
    match kept {
        Kept::Child(_) => None,
        kept => kept.value(),
    }
}

fn written((name, arguments): Call, gave: u64) -> Value {
    Value::new(Tag::Json, format!("[{name},{arguments},{gave}]"))
}

fn read(value: &Value) -> (Call, u64) {
    let text = std::str::from_utf8(&value.bytes).expect("it is a text");
    let mut numbers = text.trim_matches(['[', ']']).split(',').map(|number| number.parse::<u64>().expect("a number"));
    let mut next = || numbers.next().expect("there are three");
    ((next() as u8, next() as u8), next())
}

impl Execution {
    /// A body comes to a call that is made once. Every other name has arguments that differ between versions.
    pub(super) fn once(&mut self, at: usize, name: u8, now: Time) {
        let call = (name, if name.is_multiple_of(2) { self.setting.version } else { 0 });
        let slot = self.bodies[at].slot;
        let known = self.memos.get(&slot.seq()).and_then(|memos| memos.get(self.bodies[at].memos));
        let expected = known.filter(|(before, _)| *before == call).copied();
        let (shown, arguments) = if self.has(Bug::MemoOfAnotherCall) { (0, 0) } else { call };
        let answer = self.run.once(slot, Strand::BODY, &format!("memo {shown}"), &[arguments; 32]);
        match answer.expect("the run goes on") {
            Once::Before(kept) => {
                let found = read(kept.value().expect("no child"));
                assert_eq!(Some(found), expected, "a memo goes to the call that it is of");
                let number = self.bodies[at].memos;
                self.seen.push((slot.seq(), number, found));
                self.bodies[at].memos += 1;
            }
            Once::New(begun) => {
                assert_eq!(expected, None, "a call that is written is not made again");
                self.bodies[at].calling = Some((begun, call));
            }
        }
        self.mark(Occurrence::Started, now);
    }

    /// A call was made.
    pub(super) fn keep_memo(&mut self, at: usize, begun: MemoCall, call: Call, now: Time) {
        let slot = self.bodies[at].slot;
        let gave = self.random.next() >> 32;
        let kept = Kept::Result(written(call, gave));
        let forgotten = self.run.keep_memo(slot, Strand::BODY, Memo { call: begun, kept });
        self.forget_memos(at, &forgotten.unwrap_or_else(|_| panic!("the run goes on")));
        self.memos.entry(slot.seq()).or_default().push((call, gave));
        self.bodies[at].memos += 1;
        self.bodies[at].written_with = Some(self.run.recorded());
        if self.has(Bug::MemoNotAwaited) {
            self.see_memos(u64::MAX);
        }
        self.mark(Occurrence::Memo, now);
    }

    /// A body has made a call that is new: what is behind it is void.
    pub(super) fn forget_memos(&mut self, at: usize, forgotten: &[Kept<Value>]) {
        let (seq, before) = (self.bodies[at].slot.seq(), self.bodies[at].memos);
        let memos = self.memos.entry(seq).or_default();
        let count = forgotten.iter().filter_map(value_of).count();
        assert!(count == 0 || count == memos.len() - before, "what is behind a new call is void");
        memos.truncate(memos.len() - count);
        family::cancel_void(&mut self.run, signer()).expect("there is a secret");
    }

    /// A memo is seen by its body once it is written: what the body does next may depend on it.
    pub(super) fn see_memos(&mut self, written: u64) {
        for body in &mut self.bodies {
            if body.written_with.take_if(|recorded| *recorded <= written).is_some() {
                let (seq, number) = (body.slot.seq(), body.memos - 1);
                self.seen.push((seq, number, self.memos[&seq][number]));
            }
        }
    }
}
