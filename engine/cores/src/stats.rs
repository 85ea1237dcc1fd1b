//! Counters of a core: plain numbers on the core, published once per tick for other threads.

use std::sync::atomic::{AtomicU64, Ordering};

use model::seqlock::SeqLock;
use model::{FailureClass, Verdict};
use prober::resolver::ResolverStats;

use crate::networks::NetworkStats;

/// Account of one-shots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneShotAccount {
    /// Asked for.
    pub due: u64,
    /// Waiting to start.
    pub pending: u64,
    /// Running.
    pub in_flight: u64,
    /// Answered with a verdict of a finished attempt.
    pub done: u64,
    /// Answered with `local.shed` or `local.cancelled` without an attempt.
    pub refused: u64,
}

impl OneShotAccount {
    /// `due = pending + in_flight + done + refused`.
    pub fn balances(&self) -> bool {
        self.due == self.pending + self.in_flight + self.done + self.refused
    }
}

/// The accounts and gauges of one core at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreSnapshot {
    /// Checks that became due.
    pub due: u64,
    /// Due, waiting to start (gauge).
    pub pending: u64,
    /// Of those, waiting for their destination's caps (gauge).
    pub deferred: u64,
    /// Checks that had to wait for their destination's caps.
    pub deferred_total: u64,
    /// Started, not finished (gauge).
    pub in_flight: u64,
    /// Finished with an outcome.
    pub probed: u64,
    /// Of those, the ones that were over only after their deadline, and count as what they found.
    pub late: u64,
    /// Given up before their start: too late to be of use.
    pub shed: u64,
    /// Of those, phase points that passed while the check waited for its destination.
    pub shed_deferred: u64,
    /// Of those, every second check of targets whose address is slowed down.
    pub shed_slowed: u64,
    /// Finished or popped under an older generation.
    pub stale: u64,
    /// Of removed targets, or cut short by the drain.
    pub cancelled: u64,
    /// Finished, waiting for room in the channel (gauge).
    pub held: u64,
    /// Times that a full channel made the core hold an outcome.
    pub held_total: u64,
    /// Put on the outcome channel.
    pub sent: u64,
    /// Finished checks by [`Verdict::ALL`].
    pub verdicts: [u64; 4],
    /// Finished checks by the number of their failure class.
    pub failures: [u64; 96],
    /// Evidence cut to class and errno.
    pub evidence_truncated: u64,
    /// Evidence that nobody takes any more: the sink is gone.
    pub evidence_dropped: u64,
    /// Cut evidence that waits for room in its channel (gauge).
    pub evidence_held: u64,
    /// Evidence in its channel (gauge).
    pub evidence_queued: u64,
    /// Commands in the inbox (gauge).
    pub inbox: u64,
    /// Sets of buffers that are kept for the next attempts (gauge).
    pub attempt_buffers: u64,
    /// Memory that they hold, in bytes (gauge).
    pub attempt_buffer_bytes: u64,
    /// Buffers that the reactor keeps for the next reads (gauge).
    pub read_buffers: u64,
    /// Tasks that the reactor keeps for the next attempts (gauge).
    pub couriers_idle: u64,
    /// One-shots.
    pub one_shot: OneShotAccount,
    /// Active targets (gauge).
    pub targets: u64,
    /// Required rate in checks per 1,000 seconds (gauge).
    pub required_per_ks: u64,
    /// Attempts that may be in flight now (gauge).
    pub in_flight_limit: u64,
    /// Destination addresses that the caps know now (gauge).
    pub destinations: u64,
    /// Of all addresses, those at half their pace since their sites ask for it (gauge).
    pub destinations_slowed: u64,
    /// Configured source addresses that are not known to be absent (gauge).
    pub sources_usable: u64,
    /// Source addresses that this machine did not have a moment ago (gauge).
    pub sources_absent: u64,
    /// Pairs of source address and destination that had no free port a moment ago (gauge).
    pub sources_spent: u64,
    /// Connections that could not be made for want of a local address or port.
    pub sources_wanted: u64,
    /// Connections that are kept for the next checks (gauge).
    pub connections_kept: u64,
    /// Checks of which a request went over a kept connection and was answered.
    pub reused: u64,
    /// Kept connections that were found to be of no use any more.
    pub reused_dead: u64,
    /// Public keys of certificate issuers that are kept parsed (gauge).
    pub issuer_keys: u64,
    /// Signatures on issuers' certificates that need not be computed again (gauge).
    pub issuer_signatures: u64,
    /// Names that redirects led to and that are kept resolved (gauge).
    pub redirect_names: u64,
    /// Certificate chains that are remembered as verified (gauge).
    pub tls_chains: u64,
    /// Names whose TLS sessions are kept (gauge).
    pub tls_sessions: u64,
    /// Memory of those sessions, in bytes (gauge).
    pub tls_session_bytes: u64,
    /// Findings of second looks that are remembered (gauge).
    pub tls_second_looks: u64,
    /// Memory that decoders of bodies hold, in bytes (gauge).
    pub decoder_bytes: u64,
    /// Networks whose last checks are counted (gauge).
    pub networks: u64,
    /// Loop turns.
    pub turns: u64,
    /// Of those, the ones that began more than 50 ms too late.
    pub turns_late: u64,
    /// Monotonic time of the last turn, in µs.
    pub last_turn_us: u64,
    /// Since when results are held without a pause, monotonic µs; 0 = nothing is held.
    pub held_since_us: u64,
    /// Bytes received by attempts.
    pub bytes_in: u64,
    /// Bytes sent by attempts.
    pub bytes_out: u64,
    /// Full TLS handshakes of finished attempts.
    pub tls_full: u64,
    /// Of those, the ones whose chain was known as verified.
    pub tls_chain_hits: u64,
    /// TLS handshakes of finished attempts that resumed a session.
    pub tls_resumed: u64,
    /// TLS sessions that servers refused, so that a full handshake followed.
    pub tls_sessions_refused: u64,
    /// DNS.
    pub dns: ResolverStats,
}

const _: () = assert!(FailureClass::LocalCancelled as usize == 92);

impl Default for CoreSnapshot {
    fn default() -> Self {
        Self {
            due: 0,
            pending: 0,
            deferred: 0,
            deferred_total: 0,
            in_flight: 0,
            probed: 0,
            late: 0,
            shed: 0,
            shed_deferred: 0,
            shed_slowed: 0,
            stale: 0,
            cancelled: 0,
            held: 0,
            held_total: 0,
            sent: 0,
            verdicts: [0; 4],
            failures: [0; 96],
            evidence_truncated: 0,
            evidence_dropped: 0,
            evidence_held: 0,
            evidence_queued: 0,
            inbox: 0,
            attempt_buffers: 0,
            attempt_buffer_bytes: 0,
            read_buffers: 0,
            couriers_idle: 0,
            one_shot: OneShotAccount::default(),
            targets: 0,
            required_per_ks: 0,
            in_flight_limit: 0,
            destinations: 0,
            destinations_slowed: 0,
            sources_usable: 0,
            sources_absent: 0,
            sources_spent: 0,
            sources_wanted: 0,
            connections_kept: 0,
            reused: 0,
            reused_dead: 0,
            issuer_keys: 0,
            issuer_signatures: 0,
            redirect_names: 0,
            tls_chains: 0,
            tls_sessions: 0,
            tls_session_bytes: 0,
            tls_second_looks: 0,
            decoder_bytes: 0,
            networks: 0,
            turns: 0,
            turns_late: 0,
            last_turn_us: 0,
            held_since_us: 0,
            bytes_in: 0,
            bytes_out: 0,
            tls_full: 0,
            tls_chain_hits: 0,
            tls_resumed: 0,
            tls_sessions_refused: 0,
            dns: ResolverStats::default(),
        }
    }
}

impl CoreSnapshot {
    /// `due = pending + in_flight + probed + shed + stale + cancelled`, `probed = held + sent`, and
    /// the account of one-shots.
    pub fn balances(&self) -> bool {
        let parts =
            self.pending + self.in_flight + self.probed + self.shed + self.stale + self.cancelled;
        self.due == parts && self.probed == self.held + self.sent && self.one_shot.balances()
    }

    /// Counts a finished check by verdict and class.
    pub fn count(&mut self, verdict: Verdict, failure: Option<FailureClass>) {
        self.verdicts[verdict as usize] += 1;
        if let Some(class) = failure {
            self.failures[class as usize] += 1;
        }
    }

    /// Finished checks of one class.
    pub fn failed(&self, class: FailureClass) -> u64 {
        self.failures[class as usize]
    }
}

macro_rules! published {
    ($($field:ident),* ; $($one_shot:ident),* ; $($dns:ident),*) => {
        /// What other threads see of a core: written by the core alone, once per tick.
        ///
        /// The block is aligned to its own cache lines, so that a reader never slows the core's
        /// own data. A snapshot taken between two ticks is whole.
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct CoreStats {
            lock: SeqLock,
            verdicts: [AtomicU64; 4],
            failures: [AtomicU64; 96],
            $($field: AtomicU64,)*
            one_shot: OneShotCells,
            dns: DnsCells,
            /// Its networks, from time to time.
            pub network_stats: NetworkStats,
        }

        #[derive(Debug, Default)]
        struct OneShotCells { $($one_shot: AtomicU64,)* }

        #[derive(Debug, Default)]
        struct DnsCells { $($dns: AtomicU64,)* }

        impl Default for CoreStats {
            fn default() -> Self {
                Self {
                    lock: SeqLock::default(),
                    verdicts: std::array::from_fn(|_| AtomicU64::new(0)),
                    failures: std::array::from_fn(|_| AtomicU64::new(0)),
                    $($field: AtomicU64::new(0),)*
                    one_shot: OneShotCells::default(),
                    dns: DnsCells::default(),
                    network_stats: NetworkStats::default(),
                }
            }
        }

        impl CoreStats {
            fn store_all(&self, from: &CoreSnapshot) {
                $(self.$field.store(from.$field, Ordering::Relaxed);)*
                $(self.one_shot.$one_shot.store(from.one_shot.$one_shot, Ordering::Relaxed);)*
                $(self.dns.$dns.store(from.dns.$dns, Ordering::Relaxed);)*
                for (cell, value) in self.verdicts.iter().zip(from.verdicts) {
                    cell.store(value, Ordering::Relaxed);
                }
                for (cell, value) in self.failures.iter().zip(from.failures) {
                    cell.store(value, Ordering::Relaxed);
                }
            }

            fn load_all(&self) -> CoreSnapshot {
                let mut to = CoreSnapshot::default();
                $(to.$field = self.$field.load(Ordering::Relaxed);)*
                $(to.one_shot.$one_shot = self.one_shot.$one_shot.load(Ordering::Relaxed);)*
                $(to.dns.$dns = self.dns.$dns.load(Ordering::Relaxed);)*
                for (value, cell) in to.verdicts.iter_mut().zip(&self.verdicts) {
                    *value = cell.load(Ordering::Relaxed);
                }
                for (value, cell) in to.failures.iter_mut().zip(&self.failures) {
                    *value = cell.load(Ordering::Relaxed);
                }
                to
            }
        }
    };
}

published! {
    due, pending, in_flight, probed, late, shed, stale, cancelled, held, held_total, sent,
    deferred, deferred_total, shed_deferred, shed_slowed, destinations, destinations_slowed,
    issuer_keys, issuer_signatures,
    sources_usable, sources_absent, sources_spent, sources_wanted,
    connections_kept, reused, reused_dead,
    redirect_names, tls_chains, tls_sessions, tls_second_looks, tls_chain_hits, tls_resumed,
    tls_sessions_refused, tls_session_bytes,
    evidence_truncated, evidence_dropped, evidence_held, evidence_queued, inbox,
    attempt_buffers, attempt_buffer_bytes, read_buffers, couriers_idle,
    targets, required_per_ks, in_flight_limit, decoder_bytes, networks, turns,
    turns_late,
    last_turn_us, held_since_us, bytes_in, bytes_out, tls_full
    ; due, pending, in_flight, done, refused
    ; hits, misses, negative_hits, stale_hits, queries, noerror, nxdomain, servfail, other,
      timeouts, malformed, truncated, ignored, socket_errors, refused, stream_queries,
      streams_refused, misspelled, capped, prefetches, sick_answers, disagreed, hosts, flights,
      queued, sockets, buffers, streams, sick, names_failing, names_judged
}

impl CoreStats {
    /// Publishes `from`; only the core's own thread calls it.
    pub fn publish(&self, from: &CoreSnapshot) {
        self.lock.publish(|| self.store_all(from));
    }

    /// The last published numbers, all of one tick.
    pub fn snapshot(&self) -> CoreSnapshot {
        self.lock.read(|| self.load_all())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_snapshot_is_never_torn() {
        let stats = Arc::new(CoreStats::default());
        let writer = Arc::clone(&stats);
        let thread = std::thread::spawn(move || {
            for n in 1..=20_000u64 {
                let from = CoreSnapshot {
                    due: n,
                    sent: n,
                    probed: n,
                    ..CoreSnapshot::default()
                };
                writer.publish(&from);
            }
        });
        let mut last = 0;
        while last < 20_000 {
            let seen = stats.snapshot();
            assert!(seen.balances() && seen.due >= last);
            last = seen.due;
        }
        thread.join().expect("the writer does not panic");
    }

    #[test]
    fn an_account_that_lost_a_check_does_not_balance() {
        let snapshot = CoreSnapshot {
            due: 3,
            probed: 2,
            sent: 2,
            ..CoreSnapshot::default()
        };
        assert!(!snapshot.balances());
    }
}
