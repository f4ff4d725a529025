//! What happened on this thread, in numbers. The caller takes them away now and then and adds them
//! to those of the other workers.

use std::cell::Cell;

/// What is counted here, because only the engine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Event {
    /// A ClientHello: the start of a handshake, also of one that resumes a session.
    ClientHello = 0,
    /// A full handshake in which a client certificate was asked for.
    CertificateRequest = 1,
    /// A full handshake in which the client sent one, whatever it is worth.
    CertificatePresented = 2,
    /// A connection of a full handshake on which a request was decided about.
    FullConnection = 3,
    /// The same, of a handshake that resumed a session.
    ResumedConnection = 4,
    /// The last decision on the connection still held.
    DecisionHit = 5,
    /// It did not, or there was none.
    DecisionMiss = 6,
    /// The worker had read this client certificate before.
    ClientHit = 7,
    /// It had not.
    ClientMiss = 8,
    /// The connection did not know the verdict on its chain, the worker did.
    VerdictHit = 9,
    /// Nor did the worker: the chain was verified.
    VerdictMiss = 10,
    /// The revocation status was known.
    StatusHit = 11,
    /// It was not.
    StatusMiss = 12,
}

/// Number of events.
pub const EVENTS: usize = 13;

thread_local! {
    static COUNTS: [Cell<u64>; EVENTS] = const { [const { Cell::new(0) }; EVENTS] };
}

/// Counts an event.
pub fn count(event: Event) {
    // A connection may end after the thread's own memory is gone.
    let _ = COUNTS.try_with(|counts| {
        if let Some(count) = counts.get(event as usize) {
            count.set(count.get().wrapping_add(1));
        }
    });
}

/// Counts one of two events.
pub fn count_look_up(found: bool, hit: Event, miss: Event) {
    count(if found { hit } else { miss });
}

/// The counts since the last call, by [`Event`].
pub fn take() -> [u64; EVENTS] {
    COUNTS.with(|counts| std::array::from_fn(|i| counts.get(i).map_or(0, Cell::take)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_gives_each_count_once() {
        take();
        count(Event::ClientHello);
        count(Event::StatusMiss);
        count(Event::StatusMiss);
        count_look_up(true, Event::VerdictHit, Event::VerdictMiss);
        count_look_up(false, Event::VerdictHit, Event::VerdictMiss);
        let mut expected = [0; EVENTS];
        expected[Event::ClientHello as usize] = 1;
        expected[Event::StatusMiss as usize] = 2;
        expected[Event::VerdictHit as usize] = 1;
        expected[Event::VerdictMiss as usize] = 1;
        assert_eq!(take(), expected);
        assert_eq!(take(), [0; EVENTS]);
    }

    #[test]
    fn count_last_event_has_a_place() {
        assert_eq!(Event::StatusMiss as usize + 1, EVENTS);
    }
}
