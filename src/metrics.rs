//! Counters of the events on this thread. The caller takes them from time to time and adds them to
//! those of the other workers.

use std::cell::Cell;

/// An event that the engine counts; Lua counts all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Event {
    /// A ClientHello: the start of a handshake, also of one that resumes a session.
    ClientHello = 0,
    /// A full handshake that requested a client certificate.
    CertificateRequest = 1,
    /// A full handshake in which the client presented a certificate, valid or not.
    CertificatePresented = 2,
    /// A connection of a full handshake with at least one access decision.
    FullConnection = 3,
    /// A connection of a resumed session with at least one access decision.
    ResumedConnection = 4,
    /// The decision cached on the connection was used.
    DecisionHit = 5,
    /// No decision cached on the connection could be used.
    DecisionMiss = 6,
    /// The client was in the client cache.
    ClientHit = 7,
    /// The client was not in the client cache.
    ClientMiss = 8,
    /// The verdict was not cached on the connection, but in the verdict cache.
    VerdictHit = 9,
    /// The verdict was in no cache: the chain was verified.
    VerdictMiss = 10,
    /// The revocation status was cached.
    StatusHit = 11,
    /// The revocation status was not cached.
    StatusMiss = 12,
    /// A certificate was denied because an operator has blocked it.
    DeniedByBlock = 13,
    /// A certificate was denied because a deny list names it.
    DeniedByList = 14,
    /// A certificate was denied because no allow list names it.
    DeniedUnlisted = 15,
    /// A chain was verified whose leaf has clientAuth in its extendedKeyUsage, and no serverAuth.
    TrustedForClients = 16,
    /// The same with serverAuth, and no clientAuth.
    TrustedForServers = 17,
    /// The same with both.
    TrustedForBoth = 18,
    /// The same with neither.
    TrustedForOther = 19,
    /// The same without an extendedKeyUsage.
    TrustedForAny = 20,
    /// A certificate was written to the certificate spool.
    SpoolWritten = 21,
    /// A certificate was in the certificate spool already.
    SpoolPresent = 22,
    /// A certificate was not written, because the certificate spool has reached its bounds.
    SpoolFull = 23,
    /// A certificate was not written, because too many waited to be written or it is too large.
    SpoolDropped = 24,
    /// A certificate could not be written to the certificate spool.
    SpoolFailed = 25,
}

/// Number of events.
pub const EVENTS: usize = 26;

thread_local! {
    static COUNTS: [Cell<u64>; EVENTS] = const { [const { Cell::new(0) }; EVENTS] };
}

/// Counts an event.
pub fn count(event: Event) {
    add(event, 1);
}

/// Counts an event that occurred so many times.
pub fn add(event: Event, times: u64) {
    // A connection may end after the thread-local counters were destroyed.
    let _ = COUNTS.try_with(|counts| {
        if let Some(count) = counts.get(event as usize) {
            count.set(count.get().wrapping_add(times));
        }
    });
}

/// Counts `hit` or `miss`.
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
    fn take_returns_each_count_once() {
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
    fn count_last_event_has_a_counter() {
        assert_eq!(Event::SpoolFailed as usize + 1, EVENTS);
    }
}
