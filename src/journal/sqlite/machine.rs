//! What the processes of one machine share beside the file: a clock that cannot be set, and locks that end with the
//! process that holds them.

use std::time::Duration;

use super::locks::Locks;
use crate::journal::OwnerId;
use crate::journal::lease::{BootId, Clock, Lease, Moment};

/// By what one process knows whether another one lives.
pub(super) struct Machine {
    pub(super) clock: Clock,
    pub(super) locks: Locks,
}

impl Machine {
    /// For how long the process keeps its runs; nothing if it has lost them. A process that has ended has lost them at
    /// once; one that cannot be seen to have ended, such as a stopped one, when its lease is over.
    pub(super) fn left(&self, owner: OwnerId, lease: &Lease) -> Option<Duration> {
        lease.left(self.clock.now()).filter(|_| !self.locks.has_ended(owner))
    }
}

/// The time since the machine was booted, with the time that it was suspended.
pub fn machine_clock() -> Clock {
    let boot = boot_id();
    let offset = namespace_offset();
    Clock::new(move || Moment { boot, micros: since_boot().saturating_add_signed(-offset) })
}

/// Microseconds since the machine was booted, with the time that it was suspended.
#[cfg(target_os = "linux")]
pub fn since_boot() -> u64 {
    elapsed(rustix::time::ClockId::Boottime)
}

/// Microseconds since the machine was booted: this clock goes on while the machine sleeps.
#[cfg(target_vendor = "apple")]
pub fn since_boot() -> u64 {
    elapsed(rustix::time::ClockId::Monotonic)
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn elapsed(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    (time.tv_sec as u64).saturating_mul(1_000_000).saturating_add(time.tv_nsec as u64 / 1000)
}

/// Microseconds of the wall clock: elsewhere there is no other that all processes share.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub fn since_boot() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

/// The kernel's name of this boot; zeros where it has none.
fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}

/// By how many microseconds the clock of this time namespace is ahead of the machine's: containers that share a file
/// may have different ones.
fn namespace_offset() -> i64 {
    std::fs::read_to_string("/proc/self/timens_offsets").ok().and_then(|text| parse_offset(&text)).unwrap_or(0)
}

fn parse_offset(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i64>);
    let (seconds, nanos) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    seconds.checked_mul(1_000_000)?.checked_add(nanos / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        assert_eq!(parse_offset("monotonic           0         0\nboottime            7  5000\n"), Some(7_000_005));
        assert_eq!(
            parse_offset("monotonic           0         0\nboottime          -10         0\n"),
            Some(-10_000_000)
        );
        assert_eq!(parse_offset(""), None);
    }

    #[test]
    fn the_clock_of_the_machine_goes_forward_and_knows_its_boot() {
        let clock = machine_clock();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        let after = clock.now();
        assert_eq!(before.boot, after.boot);
        assert!(after.micros >= before.micros + 2000);
        assert_eq!(after.boot, machine_clock().now().boot);
    }
}
