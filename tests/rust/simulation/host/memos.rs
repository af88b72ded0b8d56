//! Calls that bodies make once. Each takes a while, in which the process may end.

use treadle::{Kept, Memo, MemoCall, Once, Strand, Tag, Value};

use super::{At, Call, Simulation};

impl Simulation {
    /// The call that an action is in the version that runs now: every other name has arguments that change.
    fn call_of(&self, name: u8) -> Call {
        (name, if name.is_multiple_of(2) { self.version } else { 0 })
    }

    pub(super) fn once(&mut self, at: usize, name: u8) {
        let slot = self.bodies[at].slot;
        let call = self.call_of(name);
        let known = self.ledger.memos.get(&slot.seq()).and_then(|memos| memos.get(self.bodies[at].memos));
        let expected = known.filter(|(before, _)| *before == call).map(|(_, gave)| gave.to_string().into_bytes());
        let (shown, arguments) = if self.disturbances.takes_calls_for_one { (0, 0) } else { call };
        let (text, arguments) = (format!("memo {shown}"), [arguments; 32]);
        let answer = self.call(|run| match run.once(slot, Strand::BODY, &text, &arguments) {
            Ok(Once::Before(kept)) => Ok(Err(kept.value().expect("no child").bytes.to_vec())),
            Ok(Once::New(call)) => Ok(Ok(call)),
            Err(error) => Err(error),
        });
        match answer {
            Err(_) => assert!(!self.is_running()),
            Ok(Err(gave)) => {
                assert_eq!(Some(gave), expected, "a memo goes to the call that it is of");
                self.bodies[at].memos += 1;
            }
            Ok(Ok(begun)) => {
                assert_eq!(expected, None, "a call that is kept is not made again");
                self.bodies[at].at = At::Calling(begun, call);
            }
        }
    }

    /// A call has been made.
    pub(super) fn keep_memo(&mut self, at: usize, begun: MemoCall, call: Call) {
        let slot = self.bodies[at].slot;
        self.made += 1;
        let gave = self.made;
        let value = Value::new(Tag::Json, gave.to_string());
        let kept = if gave.is_multiple_of(5) { Kept::Failure(value) } else { Kept::Result(value) };
        let answer = self.call(|run| run.keep_memo(slot, Strand::BODY, Memo { call: begun, kept }));
        let Ok(forgotten) = answer else { return assert!(!self.is_running()) };
        let memos = self.ledger.memos.entry(slot.seq()).or_default();
        let before = self.bodies[at].memos;
        assert_eq!(forgotten.len(), memos.len() - before, "what comes behind a new call is void");
        memos.truncate(before);
        memos.push((call, gave));
        self.bodies[at].memos += 1;
        self.note(&[22, slot.seq(), gave]);
    }
}
