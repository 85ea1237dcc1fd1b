//! The control port: observer, targets, truth, metrics.

use serde_json::Value;

use crate::running::{Farm, fault, shells};

#[test]
fn the_observer_counts_what_came_since_the_reset() {
    let scenario = fault("kind = 'status', status = 503, first_site = 50, count = 10");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        farm.fetch("GET", 1).expect("a page");
        assert_eq!(farm.control("POST", "/observe/reset").0, 204);
        farm.until("the reset", || {
            farm.fetch("GET", 2).is_ok() && farm.summary()["hits"] != 0
        });
        let before = farm.summary();
        let counted = |summary: &Value, method: &str, outcome: &str| {
            summary["requests"][method][outcome].as_u64().unwrap_or(0)
        };
        for site in 0..20 {
            farm.fetch("GET", site).expect("a page");
            farm.fetch("HEAD", site).expect("a page");
        }
        farm.fetch("GET", 55).expect("a page");
        let after = farm.summary();
        let more =
            |method, outcome| counted(&after, method, outcome) - counted(&before, method, outcome);
        assert_eq!(
            (more("GET", "200"), more("HEAD", "200"), more("GET", "503")),
            (20, 20, 1)
        );
        assert_eq!(after["sites"], 100);
        assert_eq!(after["excluded"], 10, "the ten sites of the fault");
        assert_eq!(after["expected"], 90);
        assert_eq!(after["observed"], 20);
        assert_eq!(after["never_seen"], 70);
        assert_eq!(after["stale"], 0);
        let age = &after["age_ms"];
        assert!(
            age["min"].as_u64() <= age["max"].as_u64() && age["p999"].is_u64(),
            "{age}"
        );
        assert!(after["gap_ms"]["max"].is_u64());
        assert_eq!(after["farm"]["shell"], **shell);
        assert_eq!(after["farm"]["evicted"], 0);
    }
}

#[test]
fn targets_have_the_right_scheme_and_port() {
    let scenario = fault("kind = 'refuse', first_site = 11")
        + &fault("kind = 'refuse', first_site = 20, count = 2");
    for shell in shells() {
        let farm = Farm::start(shell, &scenario, &[]);
        let (status, csv) = farm.control("GET", "/targets.csv?interval_s=30&timeout_ms=2000");
        assert_eq!(status, 200);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!((lines.len(), lines[0]), (101, "url,interval_s,timeout_ms"));
        let [http, https] = ["http_port", "https_port"].map(|key| farm.port(key));
        let refuse = &farm.ready["refuse_ports"];
        let row = |scheme: &str, site: u32, port: &dyn std::fmt::Display| {
            format!("{scheme}://s-{site:07}.farm.test:{port}/,30,2000")
        };
        assert_eq!(lines[1], row("https", 0, &https));
        assert_eq!(lines[2], row("http", 1, &http));
        assert_eq!(lines[12], row("http", 11, &refuse[0]));
        assert_eq!(lines[21], row("https", 20, &refuse[1]));
        assert_eq!(lines[22], row("http", 21, &refuse[1]));
    }
}

#[test]
fn the_truth_is_told_on_the_port_and_in_the_file() {
    let scenario = fault("kind = 'status', status = 503, first_site = 5, count = 2")
        + &fault("kind = 'slow_first_byte', delay_ms = 3000, first_site = 8")
        + &fault("kind = 'reset', first_site = 9, offset_s = 3600");
    for shell in shells() {
        let farm = Farm::start(shell, &scenario, &[]);
        assert_eq!(farm.control("GET", "/truth"), (200, String::new()));
        farm.control("GET", "/targets.csv?timeout_ms=3000");
        let (status, body) = farm.control("POST", "/scenario/start");
        assert_eq!(status, 200);
        let zero: Value = serde_json::from_str(&body).expect("JSON");
        let zero = zero["zero_ms"].as_u64().expect("a time");
        let (_, truth) = farm.control("GET", "/truth");
        let lines: Vec<Value> = truth
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let found: Vec<(u64, &str, &str)> = lines
            .iter()
            .map(|line| {
                assert_eq!(line["start_ms"], zero);
                assert_eq!(line["end_ms"], zero + 3_600_000);
                let text = |key: &str| line[key].as_str().expect("text");
                (
                    line["site"].as_u64().expect("a site"),
                    text("fault"),
                    text("class"),
                )
            })
            .collect();
        let expected = [
            (5, "status", "http.status"),
            (6, "status", "http.status"),
            (8, "slow_first_byte", "http.timeout"),
        ];
        assert_eq!(found, expected);
        let file = farm.dir.path().join("out/truth.jsonl");
        assert_eq!(std::fs::read_to_string(file).expect("a file"), truth);
        assert_eq!(
            farm.control("POST", "/scenario/start").0,
            409,
            "it is running"
        );
    }
}

#[test]
fn metrics_are_in_the_text_format() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &[]);
        farm.fetch("GET", 3).expect("a page");
        let (status, text) = farm.control("GET", "/metrics");
        assert_eq!(status, 200);
        assert!(
            text.contains("farm_requests{method=\"GET\",outcome=\"200\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("# TYPE farm_accepted_total counter\n"),
            "{text}"
        );
        for name in ["farm_sites 100\n", "farm_loop_lag_us{quantile=\"0.99\"} "] {
            assert!(text.contains(name), "{text}");
        }
        let cpu = text
            .lines()
            .find_map(|line| line.strip_prefix("farm_process_cpu_us_total "));
        assert!(cpu.is_some_and(|cpu| cpu != "0"), "{text}");
    }
}

#[test]
fn targets_look_for_the_texts_that_their_faults_are_about() {
    let scenario = fault("kind = 'keyword_missing', first_site = 11")
        + &fault("kind = 'forbidden_text', first_site = 12")
        + &fault("kind = 'bad_gzip', first_site = 13");
    for shell in shells() {
        let farm = Farm::start(shell, &scenario, &[]);
        let (_, csv) = farm.control("GET", "/targets.csv?interval_s=30&timeout_ms=2000");
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "url,interval_s,timeout_ms,keyword,forbidden");
        let rules = |site: usize| {
            let columns: Vec<&str> = lines[site + 1].split(',').collect();
            [columns[3].to_owned(), columns[4].to_owned()]
        };
        assert_eq!(rules(10), ["", ""]);
        assert_eq!(rules(11), ["ringwatch-farm-canary", ""]);
        assert_eq!(rules(12), ["", "ringwatch-farm-defacement"]);
        assert_eq!(rules(13), rules(11));
    }
}
