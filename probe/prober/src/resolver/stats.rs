//! Counters and gauges of the resolver.

/// Counters since the start, unless called a gauge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResolverStats {
    /// Lookups answered by a live cache line.
    pub hits: u64,
    /// Lookups that started a flight or joined one.
    pub misses: u64,
    /// Lookups answered by a remembered failure.
    pub negative_hits: u64,
    /// Answers past their TTL, given because no upstream could say anything newer.
    pub stale_hits: u64,
    /// Queries sent.
    pub queries: u64,
    /// Valid answers without an error.
    pub noerror: u64,
    /// Valid answers: no such name.
    pub nxdomain: u64,
    /// Valid answers: the upstream failed.
    pub servfail: u64,
    /// Valid answers with any other code.
    pub other: u64,
    /// Tries without an answer in their time.
    pub timeouts: u64,
    /// Answers to our question that cannot be read or followed.
    pub malformed: u64,
    /// Answers cut short by the upstream (TC).
    pub truncated: u64,
    /// Datagrams that answer nothing we asked on that socket: late, duplicate or forged.
    pub ignored: u64,
    /// Sockets that failed to open, or failed.
    pub socket_errors: u64,
    /// Lookups given up as `local.pressure`: the queue was full, or the wait in it too long.
    pub refused: u64,
    /// Questions asked over TCP; they count as queries too.
    pub stream_queries: u64,
    /// Questions that found too many TCP connections open.
    pub streams_refused: u64,
    /// Datagrams that repeat our question in other letters: each leads to a question over TCP.
    pub misspelled: u64,
    /// Names that had to wait for the cap on queries.
    pub capped: u64,
    /// Names asked for before somebody needed them.
    pub prefetches: u64,
    /// Failures that were said to be the resolvers': `dns.resolver_sick`.
    pub sick_answers: u64,
    /// Names that do not exist for one upstream, and do for another.
    pub disagreed: u64,
    /// Names held (gauge).
    pub hosts: u64,
    /// Names being resolved, the waiting ones included (gauge).
    pub flights: u64,
    /// Names that wait for their first query (gauge).
    pub queued: u64,
    /// Sockets open or opening (gauge).
    pub sockets: u64,
    /// Buffers kept for the next queries (gauge).
    pub buffers: u64,
    /// TCP connections open or opening (gauge).
    pub streams: u64,
    /// 1 while the resolvers are sick (gauge).
    pub sick: u64,
    /// While they are: names whose latest answer was a failure (gauge).
    pub names_failing: u64,
    /// While they are: names that this was judged by (gauge).
    pub names_judged: u64,
}
