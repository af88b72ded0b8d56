//! A host whose events are numbers.

use std::marker::PhantomData;

use treadle::{Host, Value};

/// Those who wait are of any type.
pub struct Guest<Waiter = ()>(PhantomData<Waiter>);

impl<Waiter: Copy> Host for Guest<Waiter> {
    type Event = u64;
    type Value = Value;
    type Class = u8;
    type Waiter = Waiter;

    fn copy_event(event: &u64) -> u64 {
        *event
    }

    fn copy_value(value: &Value) -> Value {
        value.clone()
    }

    fn copy_waiter(waiter: &Self::Waiter) -> Self::Waiter {
        *waiter
    }

    fn is_same_event(one: &u64, other: &u64) -> bool {
        one == other
    }
}
