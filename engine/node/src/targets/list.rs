//! `targets list`: what the store holds, as text or JSON lines.

use std::io::Write;

use model::Target;
use model::mask::header_value;
use serde_json::{Value, json};
use store::Store;

use crate::json_ids::json_id;

/// Targets of one page.
const PAGE: usize = 5_000;

/// Writes every target to `out`; inactive ones only when `all`.
pub(crate) async fn write(
    store: &Store,
    all: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut after = None;
    if !as_json {
        writeln!(
            out,
            "{:>20}  {:>8}  {:<6}  {:<8}  url",
            "id", "interval", "method", "state"
        )?;
    }
    loop {
        let page = store.targets(after, PAGE, !all).await?;
        for target in &page.targets {
            if as_json {
                writeln!(out, "{}", object(target))?;
            } else {
                line(target, out)?;
            }
        }
        for (id, error) in &page.refused {
            eprintln!("ringwatch: target {id} in the store: {error}");
        }
        if page.last.is_none() {
            return Ok(());
        }
        after = page.last;
    }
}

fn line(target: &Target, out: &mut dyn Write) -> std::io::Result<()> {
    let config = &target.config;
    let state = if target.active { "active" } else { "inactive" };
    let name = if config.name.is_empty() {
        String::new()
    } else {
        format!(" ({})", config.name)
    };
    let interval = format!("{} s", config.interval_s);
    let (id, method, url) = (target.id.get(), config.method.as_str(), &config.url);
    writeln!(
        out,
        "{id:>20}  {interval:>8}  {method:<6}  {state:<8}  {url}{name}"
    )
}

/// All fields of a target.
fn object(target: &Target) -> Value {
    let config = &target.config;
    let headers: Vec<String> = config
        .headers
        .iter()
        .map(|header| {
            let (name, value) = (header.name(), header.value());
            format!("{name}: {}", header_value(name, value))
        })
        .collect();
    json!({
        "id": json_id(target.id.get()),
        "name": config.name,
        "group_id": config.group_id,
        "url": config.url.to_string(),
        "interval_s": config.interval_s,
        "active": target.active,
        "generation": target.generation.0,
        "method": config.method.as_str(),
        "profile": config.profile.as_str(),
        "timeout_ms": config.timeout_ms,
        "effective_timeout_ms": config.effective_timeout_ms(),
        "redirect": config.redirect.as_str(),
        "keyword": config.keyword,
        "forbidden": config.forbidden,
        "headers": headers,
        "expect_status": config.expect_status.to_string(),
        "maintenance": config.maintenance,
        "alert_cooldown_min": config.alert_cooldown_min,
        "max_latency_ms": config.max_latency_ms,
    })
}

#[cfg(test)]
mod tests {
    use model::target::TargetConfig;
    use model::{Generation, TargetId, TargetSpec};

    use super::*;

    fn target(config: TargetConfig) -> Target {
        let id = TargetId::new(9_007_199_254_740_993).expect("positive");
        Target {
            id,
            generation: Generation(2),
            active: true,
            config,
        }
    }

    #[test]
    fn a_listed_target_masks_credentials_and_prints_large_ids_as_text() {
        let spec = TargetSpec {
            url: "http://a.example/".into(),
            headers: vec!["Authorization: Bearer x".into(), "X-Env: test".into()],
            interval_s: Some(10),
            ..TargetSpec::default()
        };
        let object = object(&target(spec.parse().expect("valid")));
        assert_eq!(object["id"], "9007199254740993");
        assert_eq!(
            object["headers"],
            json!(["Authorization: ***", "X-Env: test"])
        );
        assert_eq!(object["effective_timeout_ms"], 8_500);
    }
}
