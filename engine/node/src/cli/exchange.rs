//! Targets between our own table and that of an older system, at the word of a person. It works on
//! the server beside a node, which follows the change numbers of what it finds changed.

use std::process::ExitCode;

use cores::Clock;
use store::{ImportId, Legacy, OpenOptions, Store, StoreUrl};

use super::commands::{note, runtime};
use super::render;
use crate::config::Config;
use crate::exit::bad_input;
use crate::out;
use crate::targets::import::ImportSummary;
use crate::targets::legacy;

/// `targets import --from-legacy`.
pub(super) fn import(config: &Config, prune: bool) -> anyhow::Result<ImportSummary> {
    runtime()?.block_on(async {
        let store = open(config).await?;
        let id = ImportId(Clock::start().now().unix);
        let mut progress = render::RowProgress::start();
        let table = config.legacy.table.as_str();
        let imported = legacy::import(&store, table, (id, prune), &mut |rows| {
            if let Some(line) = progress.reach(rows) {
                out::remark(line);
            }
        })
        .await;
        progress.finish();
        if let Ok(summary) = &imported {
            note(&store, "import", format!("{table}: {}", summary.sentence())).await;
        }
        store.close().await?;
        imported
    })
}

/// `targets export --to-legacy`.
pub(super) fn export(config: &Config) -> anyhow::Result<ExitCode> {
    let done = runtime()?.block_on(async {
        let store = open(config).await?;
        let done = legacy::export(&store).await;
        if let Ok(report) = &done {
            note(&store, "export", report.sentence()).await;
        }
        store.close().await?;
        done
    })?;
    out::line(done.sentence())?;
    Ok(ExitCode::SUCCESS)
}

/// The store with both tables, each to be read and written.
async fn open(config: &Config) -> anyhow::Result<Store> {
    let Legacy { load, table, .. } = &config.legacy;
    if *load {
        return bad_input(format!(
            "the targets are the rows of {table}, because legacy.load is true: there is no table \
             of our own to exchange them with"
        ));
    }
    if let StoreUrl::Sqlite(_) = &config.store {
        return bad_input(format!(
            "the store {} has no legacy tables: name the MySQL database of them with --store \
             mysql://USER:PASS@HOST:PORT/DB",
            config.store
        ));
    }
    let options = OpenOptions {
        legacy: Some(config.legacy.clone().into()),
        ..OpenOptions::default()
    };
    Ok(Store::open_with(&config.store, options).await?)
}
