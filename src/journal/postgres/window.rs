//! A cursor over numbers that do not become visible in their order.
//!
//! What was given stays known until no transaction that has not ended can add anything below it. So nothing is left out,
//! and nothing is given twice to who goes on from the last cursor.

use std::collections::BTreeSet;

/// How far one who asks again and again has come.
#[derive(Debug, Default)]
pub(super) struct Window {
    // The last answer's cursor.
    cursor: u64,
    // Up to here all has come.
    low: u64,
    // What was given above that.
    given: BTreeSet<u64>,
}

impl Window {
    /// From where on, and how many, must be looked for to give `limit` behind a cursor.
    pub(super) fn ask(&mut self, after: u64, limit: usize) -> (u64, usize) {
        if after != self.cursor {
            *self = Self { cursor: after, low: after, given: BTreeSet::new() };
        }
        (self.low, limit.saturating_add(self.given.len()))
    }

    pub(super) fn is_new(&self, number: u64) -> bool {
        !self.given.contains(&number)
    }

    /// Notes what is given: numbers in order, of which `last` is the greatest that is there, and below `settled` nothing
    /// comes any more. Tells the cursor, and whether there may be more.
    pub(super) fn give(
        &mut self,
        after: u64,
        limit: usize,
        numbers: impl Iterator<Item = u64>,
        last: u64,
        settled: u64,
    ) -> (u64, bool) {
        let before = self.given.len();
        self.given.extend(numbers);
        let count = self.given.len() - before;
        let more = count == limit;
        // With more to come, what is behind the last one that is given was not looked at.
        let seen = if more { self.given.last().copied().unwrap_or(after) } else { last };
        if limit > 0 {
            self.low = self.low.max(seen.min(settled));
            self.given = self.given.split_off(&(self.low + 1));
        }
        self.cursor = if limit > 0 { seen.max(after) } else { after };
        (self.cursor, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_visible_late_is_given_and_nothing_twice() {
        let mut window = Window::default();
        assert_eq!(window.ask(0, 10), (0, 10));
        // 3 is still being written: transactions from 3 on have not ended.
        assert_eq!(window.give(0, 10, [1, 2, 5].into_iter(), 5, 3), (5, false));
        assert_eq!(window.ask(5, 10), (3, 11));
        assert!(window.is_new(4) && !window.is_new(5));
        assert_eq!(window.give(5, 10, [4].into_iter(), 5, 9), (5, false));
        assert_eq!(window.ask(5, 10), (5, 10));
    }

    #[test]
    fn pages_go_on_while_something_is_being_written() {
        let mut window = Window::default();
        let there = [1_u64, 2, 3, 4, 5];
        let (mut after, mut given) = (0, Vec::<u64>::new());
        loop {
            let (low, many) = window.ask(after, 2);
            let found: Vec<_> = there.iter().copied().filter(|&number| number > low).take(many).collect();
            let new: Vec<_> = found.into_iter().filter(|&number| window.is_new(number)).take(2).collect();
            given.extend(&new);
            let (cursor, more) = window.give(after, 2, new.into_iter(), 5, 0);
            after = cursor;
            if !more {
                break;
            }
        }
        assert_eq!(given, there);
    }

    #[test]
    fn who_goes_back_is_given_all_again() {
        let mut window = Window::default();
        window.ask(0, 10);
        window.give(0, 10, [1, 2, 5].into_iter(), 5, 3);
        assert_eq!(window.ask(1, 10), (1, 10));
        assert!(window.is_new(5));
    }
}
