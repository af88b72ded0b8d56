//! What a run publishes, against a list of everything ever published.

use proptest::prelude::*;
use treadle::{Read, Stream};

proptest! {
    #[test]
    fn it_keeps_the_last_ones_and_counts_those_that_a_reader_missed(limit in 0..20_usize, count in 0..60_usize) {
        let mut stream = Stream::new(limit);
        let kept = limit.max(1);
        for number in 1..=count {
            prop_assert_eq!(stream.publish(number), number.checked_sub(kept).filter(|&old| old > 0));
            prop_assert_eq!(stream.published(), number as u64);
            let expected: Vec<_> = (number.saturating_sub(kept) + 1..=number).collect();
            prop_assert_eq!(stream.kept().copied().collect::<Vec<_>>(), expected);
        }
        let forgotten = count.saturating_sub(kept);
        for after in 0..count + 3 {
            let expected = match after {
                _ if after < forgotten => Read::Lagged((forgotten - after) as u64),
                _ if after < count => Read::Event(&(after + 1)),
                _ => Read::Pending,
            };
            // The event behind number `after` is the one numbered `after + 1`.
            prop_assert_eq!(stream.read(after as u64), expected);
        }
        prop_assert_eq!(stream.read(u64::MAX), Read::Pending);
    }

    #[test]
    fn readers_of_any_speed_see_every_event_once_in_order_or_know_how_many_they_missed(
        limit in 1..8_usize,
        turns in prop::collection::vec((0..5_usize, 0..3_usize, 0..5_usize), 0..80),
    ) {
        let mut stream = Stream::new(limit);
        let mut readers = [(0, 0, 0); 3];
        let mut published = 0;
        for (publishes, reader, reads) in turns {
            for _ in 0..publishes {
                published += 1;
                stream.publish(published);
            }
            let (after, seen, missed) = &mut readers[reader];
            for _ in 0..reads {
                match stream.read(*after) {
                    Read::Event(&number) => {
                        prop_assert_eq!(number, *after + 1);
                        *after += 1;
                        *seen += 1;
                    }
                    Read::Lagged(count) => {
                        prop_assert!(count > 0);
                        *after += count;
                        *missed += count;
                        prop_assert!(matches!(stream.read(*after), Read::Event(_)), "it goes on behind them");
                    }
                    Read::Pending => prop_assert_eq!(*after, published),
                }
                prop_assert_eq!(*seen + *missed, *after);
            }
        }
    }
}
