//! The same fleet in every place that a node reads targets from: SQLite, our own tables on a
//! server, and the table of an older system.

use anyhow::Result;

use super::{Place, targets_of};
use crate::farm::Farm;
use crate::mariadb::MariaDb;
use crate::node::{Node, NodePlan};

/// A day, in s: little is probed while something else is measured.
pub(super) const INTERVAL_S: u32 = 86_400;
/// Where the targets are, in the order of the report.
pub(super) const SQLITE: &str = "SQLite";
pub(super) const OWN: &str = "MariaDB";
pub(super) const LEGACY: &str = "MariaDB, legacy table";
pub(super) const PLACES: [&str; 3] = [SQLITE, OWN, LEGACY];

/// What is read as targets from a legacy table.
const CONFIG: &str = "[legacy]\nload = true\n";
/// Has every right on the databases of legacy tables, but none to read the server's log: there is
/// no stream.
pub(super) const PLAIN_USER: &str = "CREATE USER plain@'127.0.0.1' IDENTIFIED BY 'ladder'; \
    GRANT ALL ON `legacy%`.* TO plain@'127.0.0.1'";
/// The name of the legacy table.
pub(super) const LEGACY_TABLE: &str = "legacy.jetpack_monitor_sites";
/// The legacy table with the sites of our own one. An older system counts in minutes; a day of them
/// is more than its own column holds.
const LEGACY_SITES: &str = "CREATE TABLE {database}.jetpack_monitor_sites (\
    jetpack_monitor_site_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, \
    blog_id BIGINT UNSIGNED NOT NULL, \
    bucket_no SMALLINT UNSIGNED NOT NULL, \
    monitor_url VARCHAR(300) NOT NULL, \
    monitor_active TINYINT UNSIGNED NOT NULL DEFAULT 1, \
    site_status TINYINT UNSIGNED NOT NULL DEFAULT 1, \
    last_status_change TIMESTAMP NULL DEFAULT NULL, \
    check_interval SMALLINT UNSIGNED NOT NULL DEFAULT 5, \
    PRIMARY KEY (jetpack_monitor_site_id), \
    KEY blog_id_monitor_url (blog_id, monitor_url), \
    KEY bucket_no_monitor_active_check_interval (bucket_no, monitor_active, check_interval)\
    ) ENGINE=InnoDB DEFAULT CHARSET=latin1; \
    INSERT INTO {database}.jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
    monitor_url, check_interval) SELECT id, blog_id, shard, CONVERT(monitor_url USING latin1), \
    check_interval_sec DIV 60 FROM starts.jetpack_monitor_check_targets";

/// Nodes whose stores hold every site of the farm, in the order of [`PLACES`].
pub(super) async fn filled(
    place: &Place<'_>,
    server: &MariaDb,
    farm: &Farm,
) -> Result<[(&'static str, NodePlan); 3]> {
    let targets = targets_of(farm, &place.folder, INTERVAL_S).await?;
    let on_server = |name: &str, database: &str| {
        server.create(database)?;
        let plan = place.node(name, Some(MariaDb::url(database, server.port())));
        plan.migrate()?;
        anyhow::Ok(plan)
    };
    let sqlite = place.node("sqlite", None);
    let own = on_server("mariadb-node", "starts")?;
    for plan in [&sqlite, &own] {
        let filling = NodePlan {
            targets: Some(targets.clone()),
            ..plan.clone()
        };
        Node::start(filling, &farm.ready).await?.stop().await?;
    }
    let config = place.folder.join("legacy.toml");
    std::fs::write(&config, CONFIG)?;
    let legacy = NodePlan {
        flags: vec!["--config".to_owned(), config.display().to_string()],
        ..on_server("legacy-node", "legacy")?
    };
    legacy_table(server, "legacy")?;
    Ok([(SQLITE, sqlite), (OWN, own), (LEGACY, legacy)])
}

/// The address of `database` for [`PLAIN_USER`].
pub(super) fn plain_url(database: &str, port: u16) -> String {
    MariaDb::url(database, port).replacen("ladder", "plain", 1)
}

/// Makes the legacy table in `database`, with the sites of the database `starts`; its name.
pub(super) fn legacy_table(server: &MariaDb, database: &str) -> Result<String> {
    server.sql(&LEGACY_SITES.replace("{database}", database))?;
    Ok(format!("{database}.jetpack_monitor_sites"))
}
