//! Reports with made-up numbers.

use super::*;

/// 100,000 plain sites every 60 s.
pub(crate) fn rung() -> Rung {
    Rung {
        sites: 100_000,
        interval_s: 60,
        scheme: Scheme::Http,
        store: StoreKind::Sqlite,
        faults: FaultMix::Usual,
        dns_ttl_s: 3_600,
        overload: None,
    }
}

pub(crate) fn ages(max: u64) -> Ages {
    Ages {
        min: 1,
        p50: max / 2,
        p95: max * 95 / 100,
        p99: max * 99 / 100,
        p999: max,
        max,
    }
}

pub(crate) fn latency(phase: &str, p999_us: u64) -> Latency {
    Latency {
        phase: phase.to_owned(),
        count: 1_000,
        p50_us: p999_us / 10,
        p90_us: p999_us / 5,
        p99_us: p999_us / 2,
        p999_us,
        p9999_us: p999_us,
        max_us: p999_us,
    }
}

/// Checks that cost so many µs on the probe core.
pub(crate) fn measured(core_us: f64) -> Measured {
    Measured {
        driver: "io_uring".to_owned(),
        farm_shell: "glommio".to_owned(),
        intervals: 2,
        seconds: 120.0,
        checks: 210_000,
        checks_per_s: 1_750.0,
        required_per_s: 1_754.0,
        cpu: Cpu {
            core_busy: core_us * 1_750.0 / 1e6,
            farm_busy: 0.05,
            farm_lag_p99_ms: 1.0,
            core_us,
            node_us: core_us + 10.0,
            farm_us: 30.0,
            store_us: None,
            threads_us: vec![("core-0".to_owned(), core_us)],
        },
        rss_max_bytes: 120 << 20,
        rss_budget_bytes: 200 << 20,
        store_rss_bytes: None,
        in_flight_max: 12,
        lag: latency("schedule_lag", 5_000),
        phases: vec![latency("connect", 300), latency("total", 900)],
        observer: Observer {
            expected: 99_946,
            excluded: 54,
            never_seen: 0,
            stale: 0,
            ratio: 1.05,
            requests: 210_500,
            age: Some(ages(57_100)),
            gap: Some(ages(57_200)),
        },
        checks_by_second: vec![1_750; 120],
        tls_full: 0,
        tls_resumed: 0,
        dns_queries: 0,
        freshness_rows: 13_000,
        taken_ms: Some(12),
        faults: Vec::new(),
        false_downs: 0,
    }
}

/// A clean run of `rung`.
pub(crate) fn run(rung: Rung, core_us: f64) -> Run {
    Run {
        rung,
        began_unix_ms: 1_795_000_000_000,
        took_s: 330.5,
        verdict: Verdict::Clean,
        reasons: Vec::new(),
        gates: vec![Judged {
            name: "never_seen".to_owned(),
            wall_time: false,
            failures: Vec::new(),
        }],
        ceiling: Some(Ceiling {
            required_per_s: 1_754.0,
            needed_per_s: 2_280.0,
            served_per_s: 2_290.0,
            farm_busy: 0.07,
            others_busy: 0.03,
            farm_lag_p99_ms: 1.5,
            generator_checks: 8_000,
            generator_failed: 0,
            generator_asked_per_s: 527.0,
            generator_per_s: 526.0,
            limit_per_s: 31_700.0,
        }),
        measured: Some(measured(core_us)),
        pressed: None,
    }
}

pub(crate) fn pressed() -> Pressed {
    Pressed {
        by: "2 burners".to_owned(),
        seconds: 60.0,
        needed: 0.6,
        had: 0.3,
        could: 0.3,
        factor: 2.0,
        good: 950,
        allowed: 1_000.0,
        shed: 40,
        unknown: 3,
        sites: Sites {
            requests: 990,
            never_seen: 0,
            stale: 300,
        },
        relieved: Sites {
            requests: 6_000,
            never_seen: 0,
            stale: 0,
        },
        farm_busy: 0.3,
        farm_lag_p99_ms: 3.0,
        back_s: 4.0,
    }
}

pub(crate) fn machine() -> Machine {
    Machine {
        cpu: "A CPU".to_owned(),
        cores: 2,
        kernel: "6.18".to_owned(),
        governor: None,
        load_before: 0.1,
        memory_bytes: 24 << 30,
        revision: Some("abc1234".to_owned()),
    }
}

/// Two rungs, the second one pressed.
pub(crate) fn report() -> Report {
    let overload = Rung {
        overload: Some(2),
        ..rung()
    };
    Report {
        format: FORMAT,
        machine: machine(),
        command: "cargo xtask ladder".to_owned(),
        form: Form::Full,
        cpus: Cpus {
            probe: 1,
            farm: 0,
            generator: 1,
        },
        repeats: 1,
        runs: vec![
            run(rung(), 37.0),
            Run {
                pressed: Some(pressed()),
                ..run(overload, 38.0)
            },
        ],
        flatness: vec![Flatness {
            scheme: Scheme::Http,
            store: StoreKind::Sqlite,
            interval_s: 60,
            dns_ttl_s: 3_600,
            faults: FaultMix::Usual,
            fleets: vec![(100_000, 37.0), (250_000, 38.0)],
            min_us: 37.0,
            max_us: 38.0,
            max_over_min: 38.0 / 37.0,
        }],
        left_out: vec!["http-sqlite-1M@60: a rung below it was not clean".to_owned()],
    }
}
