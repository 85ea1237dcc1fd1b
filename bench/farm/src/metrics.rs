//! `GET /metrics`: what the farm is at, in the text format of Prometheus.

use std::fmt::{Display, Write as _};

use crate::control::Observed;
use crate::gauges::Gauges;

/// The quantiles of the loop's lag, by what they are called.
const LAG: [(&str, f64); 4] = [("0.5", 0.5), ("0.99", 0.99), ("0.999", 0.999), ("1", 1.0)];

/// The whole page.
pub(crate) fn text(
    gauges: &Gauges,
    observed: &Observed,
    sites: u32,
    process_cpu_us: u64,
) -> String {
    let mut page = Page::default();
    page.family("sites", "gauge", "Sites of the farm.");
    page.sample("sites", "", sites);
    counted(&mut page, gauges, observed);
    for (name, kind, help, value) in plain(gauges, process_cpu_us) {
        page.family(name, kind, help);
        page.sample(name, "", value);
    }
    page.family(
        "loop_lag_us",
        "gauge",
        "How much later than planned a tick ran, since the last observer reset, in microseconds.",
    );
    let found = gauges
        .loop_lag_us
        .since(&observed.lag_before, LAG.map(|(_, quantile)| quantile));
    for ((name, _), value) in LAG.iter().zip(found) {
        page.sample("loop_lag_us", &format!("{{quantile=\"{name}\"}}"), value);
    }
    page.0
}

/// Requests and answers, with their labels.
fn counted(page: &mut Page, gauges: &Gauges, observed: &Observed) {
    page.family(
        "requests",
        "gauge",
        "Requests since the last observer reset.",
    );
    for (method, outcome, count) in observed.table.requests() {
        let labels = format!("{{method=\"{method}\",outcome=\"{outcome}\"}}");
        page.sample("requests", &labels, count);
    }
    page.family(
        "dns_answers_total",
        "counter",
        "DNS answers by response code.",
    );
    for (code, gauge) in gauges.dns_answers.iter().enumerate() {
        if gauge.get() > 0 {
            page.sample(
                "dns_answers_total",
                &format!("{{rcode=\"{code}\"}}"),
                gauge.get(),
            );
        }
    }
}

/// Name, kind, help and value of every other metric without labels.
#[rustfmt::skip] // A table.
fn plain(
    gauges: &Gauges,
    process_cpu_us: u64,
) -> [(&'static str, &'static str, &'static str, u64); 10] {
    let (counter, gauge) = ("counter", "gauge");
    [
        ("accepted_total", counter, "Connections accepted.", gauges.accepted.get()),
        ("accept_errors_total", counter, "Accepts that failed.", gauges.accept_errors.get()),
        ("evicted_total", counter, "Connections given up for newer ones.", gauges.evicted.get()),
        ("tls_requests_total", counter, "Requests over TLS.", gauges.tls_handshakes.get()),
        ("tls_errors_total", counter, "TLS handshakes that failed.", gauges.tls_errors.get()),
        ("dns_dropped_total", counter, "DNS queries left unanswered.", gauges.dns_dropped.get()),
        ("open_connections", gauge, "Connections being served.", gauges.open_connections.get()),
        ("silent_connections", gauge, "Connections kept silent.", gauges.silent_connections.get()),
        ("thread_cpu_us_total", counter, "CPU time of the serving thread in microseconds.",
            gauges.thread_cpu_us.get()),
        ("process_cpu_us_total", counter, "CPU time of the process in microseconds.",
            process_cpu_us),
    ]
}

/// Lines of the page so far.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!(
            "# HELP farm_{name} {help}\n# TYPE farm_{name} {kind}"
        ));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        self.line(format_args!("farm_{name}{labels} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes every write");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observer::Table;
    use crate::pages::Outcome;
    use crate::scenario::Method;

    #[test]
    fn lag_and_requests_are_those_since_the_reset_and_the_farm_says_its_own_cpu() {
        let gauges = Gauges::new();
        gauges.loop_lag_us.record(1_000_000);
        let observed = Observed {
            table: Arc::new(Table::new(1, 0, [0, 0])),
            lag_before: gauges.loop_lag_us.counts(),
        };
        gauges.loop_lag_us.record(3);
        gauges.thread_cpu_us.set(70);
        observed
            .table
            .count(Some(Method::Head), Outcome::Status(503));
        let text = text(&gauges, &observed, 7, 90);
        for line in [
            "# TYPE farm_loop_lag_us gauge",
            "farm_loop_lag_us{quantile=\"0.5\"} 3",
            "farm_loop_lag_us{quantile=\"1\"} 3",
            "farm_requests{method=\"HEAD\",outcome=\"503\"} 1",
            "farm_thread_cpu_us_total 70",
            "farm_process_cpu_us_total 90",
            "farm_sites 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
