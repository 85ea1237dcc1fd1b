//! Text of the statements that are written most: `cargo bench -p store`.
#![forbid(unsafe_code)]

use divan::Bencher;
use divan::counter::ItemsCount;
use store::{Legacy, LegacyColumns, LegacyFreshness, MysqlUrl, Name, measured};

fn main() {
    divan::main();
}

fn url(prefix: &str) -> MysqlUrl {
    let text = format!("mysql://user@db.example/watch{prefix}");
    text.parse().expect("an address")
}

#[divan::bench(args = [1, 250, 2_000])]
fn freshness_of_rows(bencher: Bencher<'_, '_>, rows: usize) {
    let url = url("");
    let bencher = bencher.counter(ItemsCount::new(rows));
    bencher.bench(|| measured::freshness_text(&url, rows));
}

/// Every name of ours is replaced in it.
#[divan::bench(args = [2_000])]
fn freshness_of_rows_with_a_prefix(bencher: Bencher<'_, '_>, rows: usize) {
    let url = url("?prefix=other_");
    let bencher = bencher.counter(ItemsCount::new(rows));
    bencher.bench(|| measured::freshness_text(&url, rows));
}

#[divan::bench(args = [1, 500])]
fn freshness_in_columns(bencher: Bencher<'_, '_>, rows: usize) {
    let legacy = legacy();
    let bencher = bencher.counter(ItemsCount::new(rows));
    bencher.bench(|| measured::legacy_freshness_text(&legacy, rows));
}

fn legacy() -> Legacy {
    let name = |text: &str| -> Name { text.parse().expect("a name") };
    Legacy {
        load: true,
        table: name("jetpack_monitor_sites"),
        columns: LegacyColumns {
            id: name("jetpack_monitor_site_id"),
            group: name("blog_id"),
            bucket: name("bucket_no"),
            url: name("monitor_url"),
            active: name("monitor_active"),
            interval: name("check_interval"),
            status: name("site_status"),
            status_changed: name("last_status_change"),
            last_checked: name("last_checked_at"),
            next_check: name("next_check_at"),
        },
        config_table: None,
        blog_config_table: None,
        status: true,
        freshness: LegacyFreshness::Columns,
        buckets: 512,
    }
}
