//! Every limit and constant of `monitor.md` and `design.md`, each in this one place.

/// Shards of a fleet.
pub const SHARDS: u16 = 1_024;
/// 2025-01-01T00:00:00Z in ms since the Unix epoch: zero of fact ids.
pub const FACT_EPOCH_UNIX_MS: u64 = 1_735_689_600_000;

/// Shortest, default and longest interval of a target, in seconds.
pub const INTERVAL_MIN_S: u32 = 10;
/// Default interval of a target, in seconds.
pub const INTERVAL_DEFAULT_S: u32 = 300;
/// Longest interval of a target, in seconds.
pub const INTERVAL_MAX_S: u32 = 86_400;
/// Smallest distance between interval and cadence, in ms.
pub const HEADROOM_MIN_MS: u32 = 1_000;
/// Largest distance between interval and cadence, in ms.
pub const HEADROOM_MAX_MS: u32 = 15_000;
/// Distance that a deadline keeps from the next due time, in ms.
pub const TIMEOUT_HEADROOM_MS: u32 = 500;

/// Shortest deadline of a check, in ms.
pub const TIMEOUT_MIN_MS: u32 = 100;
/// Default deadline of a check, in ms.
pub const TIMEOUT_DEFAULT_MS: u32 = 10_000;
/// Longest deadline of a check, in ms.
pub const TIMEOUT_MAX_MS: u32 = 60_000;

/// Longest URL, in bytes.
pub const URL_MAX_BYTES: usize = 2_083;
/// Longest URL that a redirect may lead to: sign-in pages carry far more than a target's URL.
pub const LOCATION_MAX_BYTES: usize = 8 * 1024;
/// Longest name of a target, in bytes.
pub const NAME_MAX_BYTES: usize = 128;
/// Longest keyword or forbidden text, in bytes.
pub const KEYWORD_MAX_BYTES: usize = 500;
/// Most forbidden texts of a target.
pub const FORBIDDEN_MAX: usize = 16;
/// Most custom headers of a target.
pub const HEADERS_MAX: usize = 32;
/// Longest name plus value of a custom header, in bytes.
pub const HEADER_MAX_BYTES: usize = 4_096;
/// Longest `send` and `expect` of a TCP check, in bytes; the expected ones must be in the first so
/// many that come.
pub const TCP_TEXT_MAX_BYTES: usize = 1_024;
/// Longest expected value of a DNS record, in bytes.
pub const RECORD_MAX_BYTES: usize = 1_024;
/// Most expected values of a DNS check.
pub const RECORDS_EXPECTED_MAX: usize = 32;
/// Default of `alert_cooldown_min`.
pub const ALERT_COOLDOWN_DEFAULT_MIN: i32 = 30;

/// Largest response head, in bytes.
pub const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Most header fields of a response.
pub const RESPONSE_HEADERS_MAX: usize = 128;
/// Most 1xx responses that are skipped.
pub const INTERIM_RESPONSES_MAX: u8 = 16;
/// How much of a body is read at most, in bytes.
pub const BODY_MAX_BYTES: u64 = 1024 * 1024;
/// What one attempt is read at most, in bytes, all its connections together: with the read that
/// passes it, 1 MiB. Some of what comes, such as tickets of TLS 1.3 or records of a single byte,
/// has no limit of its own.
pub const ATTEMPT_READ_MAX_BYTES: u32 = 1024 * 1024 - READ_BYTES as u32;
/// How much more where the body must be seen to its end, or to its limit for a rule, in bytes: four
/// heads at their limit, for what came before it and what TLS adds.
pub const ATTEMPT_READ_MORE_BYTES: u32 = 256 * 1024;
/// Memory of the decoders of one core, all together, in bytes. A page under brotli holds 0.3 to 2.4
/// MB of it while it comes, one above a mebibyte up to 3.5 MB, a hostile one 5.5 MB; one under gzip
/// or deflate [`DECODER_BYTES`]. What a single block makes beside that, half a mebibyte at most
/// under each of two codings, one body at a time does.
pub const DECODERS_MAX_BYTES: usize = 128 * 1024 * 1024;
/// Most of those that one body holds and is still counted as a page of the world, in bytes. What
/// holds more shares half of all with its like.
pub const DECODED_PAGE_BYTES: usize = 2_500 * 1024;
/// Of those, what every decoder takes from its beginning on: state, tables, what comes out of it.
pub const DECODER_BYTES: usize = 128 * 1024;
/// How long a body of unknown or larger size is read after the head, in ms.
pub const BODY_BUDGET_MS: u64 = 250;
/// Most redirects that are followed.
pub const REDIRECTS_MAX: u8 = 10;
/// Most connections of one attempt at a time.
pub const CONNECTIONS_PER_ATTEMPT: usize = 3;
/// How long only addresses of the preferred family are connected to (RFC 8305, section 5), in ms.
pub const FAMILY_DELAY_MS: u64 = 250;

/// Most bytes of one evidence record.
pub const EVIDENCE_MAX_BYTES: usize = 4 * 1024;
/// Response head kept as evidence, in bytes.
pub const EVIDENCE_HEAD_MAX_BYTES: usize = 1_024;
/// Error text kept as evidence, in bytes.
pub const EVIDENCE_TEXT_MAX_BYTES: usize = 500;
/// Body bytes around a rule hit, in evidence.
pub const EVIDENCE_EXCERPT_MAX_BYTES: usize = 256;
/// Addresses kept as evidence.
pub const EVIDENCE_ADDRESSES_MAX: usize = 8;
/// Evidence waiting per core, in bytes.
pub const EVIDENCE_QUEUE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Evidence records waiting per core.
pub const EVIDENCE_QUEUE_MAX: usize = 16_384;
const _: () = assert!(EVIDENCE_QUEUE_MAX * EVIDENCE_MAX_BYTES <= EVIDENCE_QUEUE_MAX_BYTES);
/// Outcomes waiting per core.
pub const OUTCOME_QUEUE_MAX: usize = 65_536;
/// Commands waiting per core.
pub const INBOX_MAX: usize = 16_384;
/// Finished intervals of histograms waiting per core.
pub const HISTOGRAM_QUEUE_MAX: usize = 16;
/// Ticks from one turn of a core's loop to the next while nothing runs, waits or comes due.
pub const REST_TICKS_MAX: u32 = 20;
/// Commands that a core takes in one turn of its loop: some milliseconds of work.
pub const COMMANDS_PER_TURN_MAX: usize = 2_048;

/// Tick of a probe core, in ms.
pub const TICK_MS: u64 = 5;
/// A loop turn above this is a stall, in µs.
pub const STALL_TURN_US: u64 = 20_000;
/// Share of the timeout above which stalls make a timeout ours, in percent.
pub const STALL_SHARE_PERCENT: u64 = 10;
/// Catch-up dispatch as a multiple of the required rate.
pub const CATCH_UP_FACTOR: u64 = 2;
/// Routine checks later than this are shed, in ms (or a quarter of the cadence, if shorter).
pub const SHED_LAG_MAX_MS: u32 = 10_000;
/// Attempts in flight to one address.
pub const ADDRESS_IN_FLIGHT_MAX: u16 = 32;
/// Attempts started to one address per second.
pub const ADDRESS_STARTS_PER_S_MAX: u16 = 50;
/// Attempts started to one address at once, ahead of its pace.
pub const ADDRESS_STARTS_AT_ONCE: u16 = 5;
/// Targets of one address that ask for fewer requests before it is slowed down.
pub const SLOWED_BY_TARGETS_MIN: usize = 10;
/// How long they are remembered, and how long their address is slowed down, in ms.
pub const SLOWED_MS: u64 = 300_000;
/// Addresses for which somebody asked that a core remembers.
pub const SLOWED_ADDRESSES_MAX: usize = 1_024;
/// A wall clock that is off by so much against the monotonic one was stepped, in ms.
pub const CLOCK_STEP_MIN_MS: u64 = 2_000;
/// How long a step lasts before maintenance windows and certificates follow it, in ms.
pub const CLOCK_STEP_LASTS_MS: u64 = 900_000;
/// Local addresses that checks may come from.
pub const SOURCE_ADDRESSES_MAX: usize = 256;
/// How long a local address is passed over where it had no free port, or was not there, in ms.
pub const SOURCE_REST_MS: u64 = 1_000;
/// Pairs of local address and destination that a core knows to have no free port.
pub const SOURCES_SPENT_MAX: usize = 4_096;
/// How long the side that closes first keeps the port of a connection (`TIME_WAIT` of Linux), in
/// ms.
pub const TIME_WAIT_MS: u64 = 60_000;
/// After how much of that Linux may use the port again where `tcp_tw_reuse` allows it, in ms.
pub const TIME_WAIT_REUSE_MS: u64 = 1_000;
/// How long a connection is kept for the next check, in ms.
pub const KEPT_IDLE_MS: u64 = 30_000;
/// Age from which a connection is not kept any more, in ms.
pub const KEPT_AGE_MS: u64 = 300_000;
/// Connections that a core keeps for the next checks; no more than may be in flight.
pub const KEPT_PER_CORE_MAX: u32 = 4_096;
/// Of those of a node, towards one address and port, from one local address.
pub const KEPT_PER_ADDRESS_MAX: u32 = 256;
/// Default cap of attempts in flight per core.
pub const IN_FLIGHT_DEFAULT_MAX: u32 = 16_384;
/// Buffers of finished attempts that a core keeps for the next ones.
pub const ATTEMPT_BUFFERS_MAX: usize = 4_096;
/// Of those, room that is kept for what is sent, and for the URL, in bytes each: a long URL or a
/// TLS hello fits.
pub const ATTEMPT_OUT_KEPT_MAX_BYTES: usize = 4 * 1024;
/// Of those, room that is kept for the response head, in bytes: what evidence shows of it fits.
pub const ATTEMPT_CARRY_KEPT_MAX_BYTES: usize = 2 * 1024;
/// Buffers of one read that a core keeps for the next reads and first flights: 16 MiB.
pub const READ_BUFFERS_MAX: usize = 4_096;
/// One read, in bytes. Most answers to a check fit; larger ones take several reads.
pub const READ_BYTES: usize = 4_096;
/// Idle tasks that a core keeps for the next attempts; beyond it a task ends with its attempt.
pub const COURIERS_IDLE_MAX: usize = 1_024;
/// Names that redirects led to and that a core keeps resolved, in each of two generations.
pub const REDIRECT_NAMES_GENERATION_MAX: usize = 50_000;
/// Re-check of a suspect target after its last completion, in ms.
pub const SUSPECT_RECHECK_MS: u32 = 60_000;
/// Distance to the next grid point when a target returns to it, in ms.
pub const GRID_RETURN_MS: u64 = 1_000;

/// Shortest time that a DNS answer is cached, in ms.
pub const DNS_TTL_MIN_MS: u64 = 30_000;
/// Longest time that a DNS answer is cached, in ms.
pub const DNS_TTL_MAX_MS: u64 = 3_600_000;
/// Shortest time that a negative DNS answer is cached, in ms.
pub const DNS_NEGATIVE_TTL_MIN_MS: u64 = 5_000;
/// Longest time that a negative DNS answer is cached, in ms.
pub const DNS_NEGATIVE_TTL_MAX_MS: u64 = 60_000;
/// Tries of one DNS query.
pub const DNS_TRIES_MAX: u8 = 3;
/// Time limit of one DNS try, in ms.
pub const DNS_TRY_MS: u64 = 1_500;
/// How often it is forgotten which upstreams want no EDNS and do not keep letters, in ms.
pub const DNS_STYLES_MS: u64 = 3_600_000;
/// Longest CNAME chain.
pub const DNS_CNAME_MAX: usize = 8;
/// How long an upstream that does not answer is passed over by new questions, in ms.
pub const DNS_SILENT_MS: u64 = 30_000;
/// UDP payload size that we advertise.
pub const DNS_EDNS_BYTES: u16 = 1_232;
/// Connected sockets per upstream and core.
pub const DNS_SOCKETS_PER_UPSTREAM: usize = 64;
/// Queries after which a DNS socket is replaced.
pub const DNS_QUERIES_PER_SOCKET: u32 = 1_024;
/// Addresses kept per name.
pub const DNS_ADDRESSES_MAX: usize = 8;
/// How far past its TTL an answer may still be used when no upstream helps, in ms.
pub const DNS_STALE_MAX_MS: u64 = 3_600_000;
/// Upstream resolvers that are used.
pub const DNS_UPSTREAMS_MAX: usize = 16;
/// Names being asked for at one time, per core.
pub const DNS_IN_FLIGHT_MAX: usize = 4_096;
/// Names waiting to be asked for, per core.
pub const DNS_QUEUE_MAX: usize = 16_384;
/// A name that waited longer to be asked for is given up as our own pressure, in ms.
pub const DNS_QUEUE_WAIT_MAX_MS: u64 = 1_500;
/// Queries per second of a node, by default.
pub const DNS_QUERIES_PER_S: u32 = 20_000;
/// Buffers of queries that a core keeps for the next ones.
pub const DNS_BUFFERS_MAX: usize = 64;
/// TCP connections to upstreams that are open at one time, per core.
pub const DNS_STREAMS_MAX: usize = 64;
/// Canary names.
pub const DNS_CANARIES_MAX: usize = 16;
/// How far back names count for the health of the resolvers, in ms.
pub const DNS_SICK_WINDOW_MS: u64 = 30_000;
/// Names below which a node says nothing of the health of the resolvers; each core sees its share.
pub const DNS_SICK_NAMES_MIN: usize = 200;
/// Names below which no core says anything of it, however many share the node's: that more than a
/// quarter of 25 names fail by chance, where 2 % always do, happens once in a million times.
pub const DNS_SICK_NAMES_FLOOR: usize = 25;
/// Share of failing names above which the resolvers may be sick, in percent.
pub const DNS_SICK_SHARE_PERCENT: usize = 25;
/// How long the share of failing names alone, without canaries, makes the resolvers sick, in ms.
pub const DNS_SICK_ALONE_MAX_MS: u64 = 5 * 60 * 1_000;

/// Consecutive failures that confirm an incident without verifiers.
pub const CONFIRM_AFTER: u32 = 3;
/// First connect or timeout failure of an up target is held this long, in ms.
pub const FIRST_FAILURE_HOLD_MS: u64 = 2_000;
/// Where there are canaries it is held until one that was asked after it answers, but at most so
/// long, in ms: until the next ones are asked, their deadline, and the word of it.
pub const FIRST_FAILURE_HOLD_MAX_MS: u64 =
    CANARY_EVERY_MS + CANARY_TIMEOUT_MS as u64 + 2 * HEALTH_EVERY_MS;
/// After a recovery a connect or timeout failure is taken for its echo for one interval, but at
/// least and at most so long, in ms.
pub const RECOVERY_WINDOW_MS: (u64, u64) = (60_000, 300_000);
/// After a false alarm such a failure is taken for another one for two intervals, but at least and
/// at most so long, in ms; each one that is suppressed starts the time again.
pub const FALSE_ALARM_WINDOW_MS: (u64, u64) = (300_000, 600_000);
/// Nothing is suppressed for longer without anybody being told, in ms: failures of one target in a
/// row count from then on, and what a whole node suppresses is an incident of the operator.
pub const SUPPRESSION_MAX_MS: u64 = 300_000;
/// Changes between up and failing that make a target flapping.
pub const FLAP_CHANGES: usize = 4;
/// Time within which they happened, in ms.
pub const FLAP_WINDOW_MS: u64 = 30 * 60 * 1_000;
/// Time without such a change after which it flaps no more, in ms.
pub const FLAP_QUIET_MS: u64 = 15 * 60 * 1_000;
/// Checks that latency is judged by: as many good ones in a row end a latency incident.
pub const LATENCY_CHECKS: u32 = 3;
/// Slow ones among them that begin one.
pub const LATENCY_SLOW: u32 = 2;
/// A certificate with so many days left is worth a warning.
pub const TLS_EXPIRY_WARNING_DAYS: u16 = 30;
/// A certificate with so many days left is worse than that.
pub const TLS_EXPIRY_DEGRADED_DAYS: u16 = 7;

/// Vantages that must agree on a failure, at most.
pub const QUORUM_MAX: usize = 3;
/// Vantages that must answer, where two or more are configured.
pub const HEALTHY_VANTAGES_MIN: usize = 2;
/// What a verifier may take beyond the deadline of a check, in ms.
pub const VERIFIER_HEADROOM_MS: u64 = 5_000;
/// Verifiers that did not answer within this time are not waited for, in ms: the longest check,
/// their headroom, and twice as much again for a batch to fill, its targets to be read, and the
/// way.
pub const VERIFIERS_WAIT_MS: u64 = TIMEOUT_MAX_MS as u64 + 3 * VERIFIER_HEADROOM_MS;
/// Checks of one request to a verifier.
pub const VERIFIER_BATCH_MAX: usize = 64;
/// Largest body of a request to a verifier, in bytes.
pub const VERIFIER_BODY_MAX_BYTES: usize = 10 * 1024 * 1024;
/// Largest answer of a verifier, in bytes: for each check 8 KiB, which its URL and a text of what
/// happened fit in also where JSON escapes every byte of the text. The control plane reads it in
/// one go, in some ms.
pub const VERIFIER_ANSWER_MAX_BYTES: usize = VERIFIER_BATCH_MAX * 8 * 1024;
const _: () = assert!(
    URL_MAX_BYTES + 6 * EVIDENCE_TEXT_MAX_BYTES + 2 * 1024
        <= VERIFIER_ANSWER_MAX_BYTES / VERIFIER_BATCH_MAX
);
/// Questions to verifiers that wait to be asked, of checks that fail at once and of those that need
/// their time; more of either are deferred at once.
pub const VERIFIER_QUESTIONS_MAX: usize = 1_024;
/// Batches of questions that verifiers are asked at one time.
pub const VERIFIER_BATCHES_MAX: usize = 64;
/// Of these, those of checks that fail at once: a place of theirs is free again in a second or two.
pub const VERIFIER_QUICK_BATCHES_MAX: usize = 16;
/// How long a verifier that failed is not asked at first, doubled with each failure in a row, and
/// at most, in ms.
pub const VERIFIER_COOLDOWN_MS: (u64, u64) = (5_000, 60_000);
/// Whole answers in a row without a vote, for its own sake, after which a verifier has failed.
pub const VERIFIER_BLANKS_MAX: u32 = 3;
/// Connections to one verifier that are kept for the next questions.
pub const VERIFIER_KEPT_MAX: usize = 16;
/// How long they are kept, in ms: less than the 15 s after which a verifier closes its end.
pub const VERIFIER_KEPT_MS: u64 = 10_000;
/// Verifiers of a node.
pub const VERIFIERS_MAX: usize = 64;
/// Failing targets of a sample, when many fail at once.
pub const SAMPLE_SIZE: usize = 20;
/// Of those, how many must be confirmed before the failures are believed.
pub const SAMPLE_CONFIRMING_MIN: usize = 16;
/// Pause between a sample that did not confirm and the next one, in ms.
pub const SAMPLE_PAUSE_MS: u64 = 60_000;
/// Pause before verifiers are asked again when too few answered, in ms; doubled each time.
pub const DEFERRAL_MIN_MS: u64 = 15_000;
/// Longest such pause, in ms.
pub const DEFERRAL_MAX_MS: u64 = 300_000;
/// Deferrals in a row after which a failing target waits for confirmation in vain: one may be an
/// unlucky question.
pub const UNCONFIRMED_DEFERRALS_MIN: u32 = 2;
/// Answers of verifiers that are kept with a decision.
pub const VOTES_KEPT_MAX: usize = 16;
/// Longest name of a vantage that is kept with its vote, in bytes.
pub const VANTAGE_MAX_BYTES: usize = 64;
/// Longest error that is kept with an answer, in bytes.
pub const VOTE_ERROR_MAX_BYTES: usize = 100;
/// Memory of what is kept with a transition beside its evidence, at most.
pub const METADATA_MAX_BYTES: usize = 4 * 1024;

/// How often the control plane tells the sink how the node is, in ms.
pub const HEALTH_EVERY_MS: u64 = 500;
/// How long the sink believes that, in ms: as long as a first failure is held, so that none opens
/// anything unless the node was found well after it.
pub const HEALTH_VALID_MS: u64 = FIRST_FAILURE_HOLD_MS;
/// A signal of our own trouble stays for so long after it was seen last, in ms.
pub const SIGNAL_STICKY_MS: u64 = 2_000;
/// A turn of a core's loop that begins so much too late is a late one, in µs.
pub const LATE_TURN_US: u64 = 50_000;
/// Share of late turns from which a loop lags, in percent: then its lag is above that at p99.
pub const LATE_TURNS_PERCENT: u64 = 1;
/// Late turns below which it does not: the worst of a hundred turns is no percentile.
pub const LATE_TURNS_MIN: u64 = 2;
/// How far back turns count, in ms.
pub const LATE_TURNS_WINDOW_MS: u64 = 5_000;
/// A loop that has not turned for so long lags, in µs.
pub const LOOP_SILENCE_US: u64 = 1_000_000;
/// Share of the open files that may be used above which we are short of them, in percent.
pub const DESCRIPTORS_SHARE_PERCENT: u64 = 90;
/// Share of the open files that is planned for, in percent: what a node plans to use is no
/// shortage, and connections that close have theirs a moment longer.
pub const FILES_PLANNED_PERCENT: u64 = 85;
const _: () = assert!(FILES_PLANNED_PERCENT < DESCRIPTORS_SHARE_PERCENT);
/// Canary targets.
pub const CANARIES_MAX: usize = 8;
/// How often each is checked, in ms.
pub const CANARY_EVERY_MS: u64 = 3_000;
/// The same while networks are dark.
pub const CANARY_SOON_MS: u64 = 1_000;
/// What it may take to answer, in ms.
pub const CANARY_TIMEOUT_MS: u32 = 2_000;
/// A core that has not said by then what came of it is asked again, in ms.
pub const CANARY_PATIENCE_MS: u64 = 10_000;
/// Networks (/16, of IPv6 /32) whose last checks a core counts; the rest of them is not looked at.
pub const NETWORKS_MAX: usize = 1_024;
/// Length of a window of that count, in ms: this one and the one before make up a network's share.
pub const NETWORK_WINDOW_MS: u64 = 5_000;
/// Windows after which a network that was not checked is forgotten.
pub const NETWORK_WINDOWS_KEPT: u32 = 12;
/// How often a core hands these counts over, in ms.
pub const NETWORKS_EVERY_MS: u64 = 500;

/// How far back results count for failure pressure, in s.
pub const PRESSURE_WINDOW_S: usize = 10;
/// Results in it below which there is none.
pub const PRESSURE_RESULTS_MIN: u64 = 1_000;
/// Share of failing ones from which there is, in percent.
pub const PRESSURE_SHARE_PERCENT: u64 = 25;
/// How long it lasts after it was seen last, in ms.
pub const PRESSURE_STICKY_MS: u64 = 2 * 60 * 1_000;
/// Share of failing results above which our own network may be gone, in percent.
pub const ISOLATION_SHARE_PERCENT: u64 = 90;
/// When it is back, checks that began before are still under way: so long they are doubted, in ms.
/// The default deadline and half as much.
pub const ISOLATION_AFTERMATH_MS: u64 = 15_000;
/// Targets that were well and that our own kernel finds no way to, within [`PRESSURE_WINDOW_S`],
/// from which a part of our network went away.
pub const CUT_OFF_TARGETS_MIN: u64 = 3;
/// Of a fleet with many checks it takes this share of their results, too, per mille.
pub const CUT_OFF_SHARE_PER_MILLE: u64 = 1;
/// After the last such target checks that were connected before are still under way: so long they
/// are doubted, in ms. The default deadline and half as much.
pub const CUT_OFF_AFTERMATH_MS: u64 = 15_000;
/// Unrelated /16 networks that must be dark, too, before it is.
pub const ISOLATION_NETWORKS_MIN: u16 = 3;
/// Results within [`PRESSURE_WINDOW_S`] of which the share that fails says that our network is
/// gone; with fewer no target may have answered at all.
pub const ISOLATION_RESULTS_MIN: u64 = 10;

/// Journal appends reach the disk within this time, in ms.
pub const JOURNAL_SYNC_MS: u64 = 50;
/// Largest journal segment, in bytes.
pub const JOURNAL_SEGMENT_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// All journal segments together, in bytes, before an alarm.
pub const JOURNAL_MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// A statement of an apply that takes longer costs its connection; an apply that takes longer is
/// told of, in ms.
pub const APPLY_TIMEOUT_MS: u64 = 2_000;
/// A request to the embedded store waits this long for the lock of another process, in ms.
pub const STORE_BUSY_MS: u64 = 2_000;
/// A database server must take a connection within this time, in ms.
pub const STORE_CONNECT_MS: u64 = 10_000;
/// A statement of the freshness or of the control plane must be answered by a database server
/// within this time, in ms.
pub const STORE_STATEMENT_MS: u64 = 30_000;
/// Changes of legacy rows that came in one transaction of the server, at most; more are not given
/// one by one, and the table is read again. Changes that wait for whoever uses them are at most
/// twice as many.
pub const CHANGED_ROWS_MAX: usize = 10_000;
/// Largest event of a server's binary log that is taken in, in bytes.
pub const CHANGE_EVENT_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Changes of legacy rows are gathered for so long before they are given, in ms.
pub const CHANGE_GATHER_MS: u64 = 50;
/// A change whose row is still locked is given at once, and again after so long, in ms, until it is
/// not.
pub const CHANGE_AGAIN_MS: u64 = 500;
/// A stream of changes that says nothing for so long is dead, in ms; a server without changes is
/// asked to say so three times as often.
pub const CHANGE_SILENCE_MS: u64 = 30_000;
/// A stream of changes is not taken up where so much of the server's log, in bytes, came after it
/// ended: reading the table is no more work then, and rows that are read once are enough. At some
/// 50 MB/s of log it is a second or two; as rows of ours it would be half a million.
pub const CHANGE_BEHIND_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Where a stream of changes is gets stored at most once in so long, in ms.
pub const CHANGE_KEEP_MS: u64 = 5_000;
/// Facts in one batch.
pub const BATCH_MAX: usize = 1_000;
/// Facts that the store is given at a time at most, of several batches that wait.
pub const APPLY_FACTS_MAX: usize = 32 * BATCH_MAX;
/// Their memory at most, where they are more than one batch, in bytes.
pub const APPLY_MAX_BYTES: usize = 16 * 1024 * 1024;
/// The store is given less at a time when it takes longer, in ms: renewals of the lease wait.
pub const APPLY_HOLD_MS: u64 = 1_500;
/// Facts that wait for the journal at most before the sink stops draining: then the cores hold
/// their results.
pub const FACTS_WAITING_MAX: usize = 131_072;
/// Memory of facts that wait for the journal at most before the same happens: 1 kB each.
pub const FACTS_WAITING_MAX_BYTES: usize = 128 * 1024 * 1024;
/// Evidence that waits for its outcome in the sink at most, over all cores.
pub const EVIDENCE_WAITING_MAX: usize = 32_768;
/// Batches kept in memory for the store, each of at most [`BATCH_MAX`] facts; when it is further
/// behind they are read back from the journal.
pub const APPLY_LOADED_MAX: usize = 32;
/// Default length of the lease under which a node writes, in s of the database's clock.
pub const LEASE_DEFAULT_S: u32 = 30;
/// Longest name of a node, in bytes.
pub const NODE_ID_MAX_BYTES: usize = 255;
/// Commands that wait for the sink; a sender that finds it full waits or tries again.
pub const SINK_COMMANDS_MAX: usize = 1_024;
/// Released slots that wait for the control plane; more wait inside the sink.
pub const SLOTS_RELEASED_MAX: usize = 16_384;
/// Rows of one freshness statement. It is one of four of its transaction: with half as many rows a
/// healthy fleet of 500,000 asked more of its server than once in 500 checks.
pub const FRESHNESS_CHUNK_ROWS: usize = 2_000;
/// Pause between two freshness flushes, in ms.
pub const FRESHNESS_FLUSH_MS: u64 = 10_000;
/// Rows of the history of one transaction.
pub const HISTORY_CHUNK_ROWS: usize = 1_000;
/// Checks that wait for the history; more of them are left out, healthy ones from half of it on.
pub const HISTORY_WAITING_MAX: usize = 131_072;
/// Rows of the legacy table that are read at once.
pub const LEGACY_PAGE_MAX: usize = 5_000;
/// Destinations without a cap whose local ports a node keeps account of; beyond it a change has
/// all targets read, once a minute at most.
pub const PORTS_DESTINATIONS_MAX: usize = 65_536;
/// Rows of the legacy table that are read by their ids at once.
pub const LEGACY_IDS_PER_READ: usize = 256;
/// Ids of changed legacy rows that wait to be read; beyond it the whole table is.
pub const LEGACY_IDS_MAX: usize = 65_536;
/// Rows of a bucket up to which it is counted, and read when its count is not ours. Beyond it rows
/// are counted by id, so many at once as a page has.
pub const LEGACY_BUCKET_ROWS_MAX: u64 = 20_000;
/// Default projection interval, in ms.
pub const PROJECTION_INTERVAL_MS: u64 = 15 * 60 * 1_000;
/// Projection intervals that may be asked for, in s: each check a row below it, times that their
/// readers do not expect above it.
pub const PROJECTION_INTERVAL_S_RANGE: (u32, u32) = (5 * 60, 15 * 60);
/// Slack of the projection rule, in ms.
pub const PROJECTION_SLACK_MS: u64 = 2_000;

/// Time to finish or cancel what runs at shutdown, in seconds.
pub const DRAIN_DEFAULT_S: u32 = 20;

/// Public keys of certificate issuers that a core keeps parsed, per signature algorithm. The
/// authorities that browsers trust sign with fewer.
pub const TLS_ISSUER_KEYS_MAX: usize = 512;
/// Signatures on certificates of authorities that a core knows to be good, per algorithm.
pub const TLS_ISSUER_SIGNATURES_MAX: usize = 512;
/// Largest signed part of such a certificate that is remembered, in bytes: most are of 1 to 2 kB.
pub const TLS_ISSUER_SIGNED_MAX_BYTES: usize = 4 * 1024;
/// How long a core uses its half of a TLS key exchange, in seconds.
pub const TLS_KEY_SHARE_S: u64 = 1;
/// Verified certificate chains that a core remembers.
pub const TLS_CHAINS_MAX: usize = 100_000;
/// How long a verified chain is good without being verified again, in seconds.
pub const TLS_CHAIN_GOOD_S: u64 = 3_600;
/// Names (with their port) whose TLS sessions a core keeps.
pub const TLS_SESSIONS_MAX: usize = 100_000;
/// What those sessions hold at most, in bytes: the 100,000 at 5 kB each, which is a chain of the
/// world with its ticket.
pub const TLS_SESSIONS_MAX_BYTES: usize = 512 * 1024 * 1024;
/// Largest session that is kept, in bytes: its chain and its ticket. Servers of the world stay
/// below 10 kB; what they may send is 64 KiB of each.
pub const TLS_SESSION_MAX_BYTES: usize = 16 * 1024;
/// Default distance between two full handshakes with one name, in seconds.
pub const TLS_FULL_EVERY_DEFAULT_S: u32 = 900;
/// Longest distance between two full handshakes with one name, in seconds.
pub const TLS_FULL_EVERY_MAX_S: u32 = 86_400;
/// What a second look is read at most, in bytes: a `ServerHello` in records of one byte fits.
pub const TLS_SECOND_LOOK_MAX_BYTES: usize = 1_024;
/// How long the finding of a second look is remembered, in seconds.
pub const TLS_SECOND_LOOK_KEPT_S: u64 = 86_400;
/// Findings of second looks that a core remembers.
pub const TLS_SECOND_LOOKS_MAX: usize = 16_384;

/// Actions of operators that wait for the store.
pub const AUDIT_WAITING_MAX: usize = 1_024;
/// Lines of the incident machine that wait for the audit log at most; further ones are left out.
pub const AUDIT_TRAIL_MAX: usize = 16_384;
/// Those of them that take the votes of verifiers along, of [`METADATA_MAX_BYTES`] at most.
pub const AUDIT_TRAIL_VOTES_MAX: usize = 2_048;

/// Longest maintenance window that operators add, in ms: 7 days.
pub const WINDOW_MAX_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Windows that a store keeps.
pub const WINDOWS_MAX: usize = 1_000;
/// Why there is a window, in bytes.
pub const WINDOW_REASON_MAX_BYTES: usize = 500;
/// Name of a time zone, in bytes.
pub const WINDOW_ZONE_MAX_BYTES: usize = 64;
/// A window that was once is kept so long after its end, in ms: 30 days.
pub const WINDOW_KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
