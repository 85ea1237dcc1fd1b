//! Targets that the store has as somebody edited them, while the node checks them as they were: so
//! it is as long as edits wait for better times.

use rig::mariadb;

use super::*;

/// Edits every target so that no node hears of it.
fn edit_unheard(database: &str) {
    let table = format!("{database}.jetpack_monitor_check_targets");
    mariadb::shared().sql(&format!("UPDATE {table} SET generation = generation + 1"));
}

/// Lesson: verifiers were not asked about a target whose edit waited, and its outage was confirmed
/// a minute and a deferral late.
#[test]
fn while_an_edit_waits_what_is_down_is_confirmed_and_what_is_up_is_no_false_alarm() {
    let dir = tempfile::tempdir().expect("temp dir");
    let name = mariadb::fresh_name();
    mariadb::shared().sql(&format!("CREATE DATABASE {name}"));
    let store = mariadb::shared().address("ringwatch", &name);
    let place = ["--data-dir", text(dir.path()), "--store", &store];
    let migrated = run(&[&["migrate"][..], &place].concat());
    assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
    let services = ["oslo", "rome"].map(|vantage| {
        let line = format!("vantage = '{vantage}'");
        let flags = ["--allow", "127.0.0.0/8", "--user-agent", "elsewhere"];
        Service::start(&dir.path().join(vantage), &line, &flags)
    });
    let verifiers = [("oslo", &services[0]), ("rome", &services[1])];
    let verifiers = verifiers.map(|(vantage, it)| entry("http", it.address, vantage));
    let is_up = Arc::new(AtomicBool::new(true));
    let sites = [serve_by(&is_up), down_but_for("elsewhere", &is_up)];
    let lines = sites.map(|site| format!("http://{site}/,10,500"));
    let node = node_of(dir.path(), &lines, &verifiers, &place[2..]);
    let checked = |status: &Value| status["fleet"]["probed"].as_u64() >= Some(2);
    status_until(&dir.path().join("d"), checked);
    edit_unheard(&name);
    is_up.store(false, Ordering::SeqCst);
    let page = metrics_until(dir.path(), |page| {
        votes(page, "down") >= 2 && non_votes(page, "edited") >= 2
    });
    assert_eq!((votes(&page, "up"), non_votes(&page, "no_target")), (0, 0));
    let status = status_until(&dir.path().join("d"), |status| {
        status["targets"]["down"] == 1 && status["sink"]["apply_lag"] == 0
    });
    assert_eq!(status["targets"]["seems_down"], 1, "{status}");
    drop(node);
}
