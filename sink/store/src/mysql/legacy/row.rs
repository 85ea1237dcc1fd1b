//! One legacy row as a target. Whatever wrote it, a `Target` that exists is valid; a row that is
//! none is refused with its id and does not keep the others away. Asks no server.

use model::target::{Maintenance, TargetConfig};
use model::{FieldError, Generation, Target, TargetId, TargetSpec};
use mysql_async::Row;
use serde_json::Value as Json;

use super::super::targets::field;
use crate::columns::{Field, Fingerprint, text, unsigned, whole};
use crate::legacy::{LEGACY_BUCKET_MAX, LegacyRow, LegacyState};

/// Columns before the settings.
const HEAD_LEN: usize = 7;
/// Of those, the bucket; NULL where it is not asked for.
const BUCKET_AT: usize = 5;
/// And whether an operator paused it.
const PAUSED_AT: usize = 6;

/// A column of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Is(&'static str),
    /// A time, which is read as s since the Unix epoch.
    Time(&'static str),
}

impl Setting {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Is(name) | Self::Time(name) => name,
        }
    }

    /// The expression that reads it from the table called `of`.
    pub(super) fn read_from(self, of: &str) -> String {
        match self {
            Self::Is(name) => format!("{of}.{name}"),
            Self::Time(name) => {
                format!("TIMESTAMPDIFF(SECOND, {}, {of}.{name})", super::EPOCH)
            }
        }
    }
}

/// The settings in the order in which they are read.
pub(super) const SETTINGS: [Setting; 11] = [
    Setting::Is("request_method"),
    Setting::Is("detection_profile"),
    Setting::Is("check_keyword"),
    Setting::Is("forbidden_keyword"),
    Setting::Is("forbidden_keywords"),
    Setting::Is("custom_headers"),
    Setting::Is("timeout_seconds"),
    Setting::Is("redirect_policy"),
    Setting::Is("alert_cooldown_minutes"),
    Setting::Time("maintenance_start"),
    Setting::Time("maintenance_end"),
];

/// A row that is a target, or the id of one that is not with the reason.
pub(super) fn read_row(row: &Row) -> Result<Target, (i64, FieldError)> {
    target(&fields(row))
}

/// Whether an operator paused the target of a row.
pub(super) fn is_paused(row: &Row) -> bool {
    has_pause(field(row.as_ref(PAUSED_AT)))
}

fn has_pause(field: Field<'_>) -> bool {
    matches!(field, Field::Whole(flag) if flag != 0)
}

/// The row `id` as a sweep sees it: of an inactive or paused one nothing more is read.
pub(super) fn read_seen(id: TargetId, row: &Row) -> LegacyRow {
    seen(id, &fields(row))
}

fn fields(row: &Row) -> Vec<Field<'_>> {
    (0..row.len()).map(|at| field(row.as_ref(at))).collect()
}

fn seen(id: TargetId, fields: &[Field<'_>]) -> LegacyRow {
    let is_paused = fields.get(PAUSED_AT).copied().is_some_and(has_pause);
    let state = match (is_active(fields), is_paused) {
        (false, _) => LegacyState::Inactive,
        (true, true) => LegacyState::Paused,
        (true, false) => match target(fields).and_then(fingerprinted) {
            Ok(active) => active,
            Err((_, why)) => LegacyState::Refused(why),
        },
    };
    let bucket = match fields.get(BUCKET_AT) {
        Some(Field::Whole(bucket)) => u16::try_from(*bucket).ok(),
        _ => None,
    };
    let bucket = bucket.filter(|&bucket| bucket <= LEGACY_BUCKET_MAX);
    LegacyRow { id, bucket, state }
}

fn fingerprinted(target: Target) -> Result<LegacyState, (i64, FieldError)> {
    let fingerprint = Fingerprint::of(&target.config).map_err(|why| (target.id.get(), why))?;
    Ok(LegacyState::Active(Box::new(target), fingerprint))
}

fn is_active(fields: &[Field<'_>]) -> bool {
    fields.get(1) == Some(&Field::Whole(1))
}

fn target(fields: &[Field<'_>]) -> Result<Target, (i64, FieldError)> {
    let id = match fields.first() {
        Some(Field::Whole(id)) => *id,
        _ => 0,
    };
    let read = || {
        let accepted = "a number above 0";
        let target =
            TargetId::new(id).ok_or_else(|| FieldError::new("id", &id.to_string(), accepted))?;
        Ok(Target {
            id: target,
            // Nothing says which configuration of a legacy row is the newer one.
            generation: Generation(1),
            active: is_active(fields),
            config: config(fields)?,
        })
    };
    read().map_err(|error| (id, error))
}

fn config(fields: &[Field<'_>]) -> Result<TargetConfig, FieldError> {
    let head = |at: usize| fields.get(at).copied().unwrap_or(Field::Null);
    let own = fields.get(HEAD_LEN..).unwrap_or_default();
    let setting = |name: &str| {
        let at = SETTINGS.iter().position(|known| known.name() == name);
        let at = at.expect("every name below is in the list");
        let of = |place: usize| own.get(place).copied().unwrap_or(Field::Null);
        match of(at) {
            Field::Null => of(SETTINGS.len() + at),
            own => own,
        }
    };
    let minutes = whole("interval_s", head(4))?.unwrap_or(0);
    let group = whole("group_id", head(2))?.unwrap_or(0);
    let timeout_s = whole("timeout_ms", setting("timeout_seconds"))?;
    let cooldown = whole("alert_cooldown_min", setting("alert_cooldown_minutes"))?;
    TargetSpec {
        id: None,
        group_id: Some(unsigned("group_id", group)?),
        url: text("url", head(3))?.unwrap_or_default(),
        interval_s: Some(minutes.saturating_mul(60)),
        method: word("method", setting("request_method"))?,
        profile: word("profile", setting("detection_profile"))?.map(profile),
        timeout_ms: timeout_s.map(|seconds| seconds.saturating_mul(1_000)),
        redirect: word("redirect", setting("redirect_policy"))?,
        keyword: word("keyword", setting("check_keyword"))?,
        forbidden: forbidden(setting("forbidden_keyword"), setting("forbidden_keywords"))?,
        headers: headers(setting("custom_headers"))?,
        maintenance: maintenance(setting("maintenance_start"), setting("maintenance_end"))?,
        alert_cooldown_min: cooldown.map(i32::try_from).transpose().map_err(|error| {
            FieldError::new("alert_cooldown_min", &error.to_string(), "32 bits")
        })?,
        ..TargetSpec::default()
    }
    .parse()
}

/// A text; an empty one says nothing.
fn word(name: &'static str, value: Field<'_>) -> Result<Option<String>, FieldError> {
    Ok(text(name, value)?.filter(|text| !text.is_empty()))
}

/// The older systems have a longer word for one of ours.
fn profile(word: String) -> String {
    if word.eq_ignore_ascii_case("simple_http") {
        return "simple".to_owned();
    }
    word
}

fn forbidden(one: Field<'_>, list: Field<'_>) -> Result<Vec<String>, FieldError> {
    let name = "forbidden";
    let mut all: Vec<String> = word(name, one)?.into_iter().collect();
    let Some(json) = word(name, list)? else {
        return Ok(all);
    };
    let accepted = || FieldError::new(name, &json, "a JSON list of texts");
    let Ok(Some(more)) = serde_json::from_str::<Option<Vec<String>>>(&json) else {
        return if json.trim() == "null" {
            Ok(all)
        } else {
            Err(accepted())
        };
    };
    all.extend(more.into_iter().filter(|text| !text.is_empty()));
    Ok(all)
}

/// `{"Name": "value"}`, or a list of `Name: value` as we have it.
fn headers(value: Field<'_>) -> Result<Vec<String>, FieldError> {
    let name = "headers";
    let Some(json) = word(name, value)? else {
        return Ok(Vec::new());
    };
    // Values may be secrets: what was found is not shown.
    let accepted = "a JSON object of texts such as {\"X-Env\": \"live\"}";
    let refuse = || FieldError::new(name, "something else", accepted);
    let text = |value: &Json| value.as_str().map(ToOwned::to_owned).ok_or_else(refuse);
    match serde_json::from_str(&json).map_err(|_| refuse())? {
        Json::Null => Ok(Vec::new()),
        Json::Array(all) => all.iter().map(text).collect(),
        Json::Object(all) => all
            .iter()
            .map(|(name, value)| Ok(format!("{name}: {}", text(value)?)))
            .collect(),
        _ => Err(refuse()),
    }
}

/// From seconds. A window with one end is none, and one that ends before it begins neither: the
/// system that wrote it never took it for active, and its site is checked. A date before 1970
/// stands for none.
fn maintenance(start: Field<'_>, end: Field<'_>) -> Result<Option<Maintenance>, FieldError> {
    let ms = |value: Field<'_>| -> Result<Option<u64>, FieldError> {
        let seconds = whole("maintenance", value)?;
        let ms = seconds.and_then(|seconds| u64::try_from(seconds).ok()?.checked_mul(1_000));
        Ok(ms)
    };
    Ok(match (ms(start)?, ms(end)?) {
        (Some(start_ms), Some(end_ms)) if start_ms < end_ms => {
            Some(Maintenance { start_ms, end_ms })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use model::target::{Method, Profile, Redirect};

    use super::*;

    type Given<'a> = (&'static str, Field<'a>);

    /// A row with these settings of the target and of its blog.
    fn row<'a>(minutes: i64, own: &[Given<'a>], blog: &[Given<'a>]) -> Vec<Field<'a>> {
        let url = Field::Text(b"http://a.test/");
        let mut fields = vec![
            Field::Whole(7),
            Field::Whole(1),
            Field::Whole(9),
            url,
            Field::Whole(minutes),
            Field::Whole(3),
            Field::Whole(0),
        ];
        for given in [own, blog] {
            fields.extend(SETTINGS.map(|setting| {
                let found = given.iter().find(|(name, _)| *name == setting.name());
                found.map_or(Field::Null, |(_, field)| *field)
            }));
        }
        fields
    }

    fn text(text: &str) -> Field<'_> {
        Field::Text(text.as_bytes())
    }

    #[test]
    fn a_row_without_settings_has_our_defaults_and_its_minutes() {
        for (minutes, interval_s) in [(5, 300), (1, 60), (0, 300), (60, 3_600)] {
            let target = target(&row(minutes, &[], &[])).expect("valid");
            let config = &target.config;
            assert_eq!((target.id.get(), config.group_id), (7, 9));
            assert_eq!((config.interval_s, config.timeout_ms), (interval_s, 10_000));
            assert!(target.active);
        }
    }

    #[test]
    fn a_setting_of_the_target_goes_before_that_of_its_blog_and_null_inherits() {
        let own = [
            ("request_method", text("HEAD")),
            ("timeout_seconds", Field::Whole(3)),
            ("check_keyword", text("")),
            ("detection_profile", text("full")),
        ];
        let blog = [
            ("request_method", text("GET")),
            ("detection_profile", text("simple_http")),
            ("redirect_policy", text("fail")),
            ("timeout_seconds", Field::Whole(20)),
        ];
        let target = target(&row(5, &own, &blog)).expect("valid");
        let http = target.config.check.http().expect("an HTTP check");
        assert_eq!(
            (http.method, http.profile, http.redirect),
            (Method::Head, Profile::Full, Redirect::Fail)
        );
        assert_eq!(target.config.timeout_ms, 3_000);
        assert_eq!(http.keyword, None);
    }

    #[test]
    fn lists_and_windows_are_read_in_the_forms_that_older_systems_write() {
        let own = [
            ("forbidden_keyword", text("hacked")),
            ("forbidden_keywords", text(r#"["casino", ""]"#)),
            (
                "custom_headers",
                text(r#"{"X-Env": "live", "Accept": "*/*"}"#),
            ),
            ("maintenance_start", Field::Whole(1_000)),
            ("maintenance_end", Field::Whole(2_000)),
            ("alert_cooldown_minutes", Field::Whole(0)),
        ];
        let target = target(&row(5, &own, &[])).expect("valid");
        let http = target.config.check.http().expect("an HTTP check");
        assert_eq!(http.forbidden, ["hacked", "casino"]);
        assert_eq!(http.headers.len(), 2);
        let window = target.config.maintenance.expect("a window");
        assert_eq!((window.start_ms, window.end_ms), (1_000_000, 2_000_000));
        let never = Field::Whole(-30_610_224_000);
        let dates = [
            ("maintenance_start", never),
            ("maintenance_end", Field::Whole(7)),
        ];
        let target = super::target(&row(5, &dates, &[])).expect("valid");
        assert_eq!(target.config.maintenance, None);
        let list = [("custom_headers", text(r#"["X-Env: live"]"#))];
        assert!(super::target(&row(5, &list, &[])).is_ok());
    }

    #[test]
    fn a_bad_row_is_refused_with_its_id_and_its_secrets_are_not_shown() {
        let secret = r#"{"Authorization": ["s3cret"]}"#;
        for (minutes, own, refused) in [
            (-5, ("check_keyword", Field::Null), "interval_s"),
            (5, ("request_method", text("PUT")), "method"),
            (5, ("forbidden_keywords", text("{}")), "forbidden"),
            (5, ("custom_headers", text(secret)), "headers"),
            (5, ("custom_headers", text("s3cret")), "headers"),
            (5, ("timeout_seconds", Field::Whole(61)), "timeout_ms"),
        ] {
            let (id, error) = target(&row(minutes, &[own], &[])).expect_err(refused);
            assert_eq!((id, error.field), (7, refused));
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        let mut bad = row(5, &[], &[]);
        bad[3] = text("not a url");
        assert_eq!(target(&bad).expect_err("refused").1.field, "url");
        // Never a default in place of what is not understood.
        bad[3] = Field::Null;
        assert_eq!(target(&bad).expect_err("refused").1.field, "url");
    }

    #[test]
    fn a_row_is_seen_with_its_bucket_and_an_inactive_one_need_not_be_valid() {
        let id = TargetId::new(7).expect("positive");
        let mut fields = row(5, &[], &[]);
        let of = |fields: &[Field<'_>]| (seen(id, fields).bucket, seen(id, fields).state);
        let (bucket, state) = of(&fields);
        assert!(matches!(state, LegacyState::Active(..)), "{state:?}");
        assert_eq!(bucket, Some(3));
        fields[3] = Field::Null;
        assert!(matches!(of(&fields).1, LegacyState::Refused(_)));
        fields[PAUSED_AT] = Field::Whole(1);
        assert_eq!(of(&fields), (Some(3), LegacyState::Paused));
        fields[1] = Field::Whole(0);
        assert_eq!(of(&fields).1, LegacyState::Inactive);
        for (bucket, known) in [
            (Field::Whole(65_534), Some(65_534)),
            (Field::Whole(65_535), None),
            (Field::Whole(-1), None),
            (Field::Null, None),
        ] {
            fields[BUCKET_AT] = bucket;
            assert_eq!(of(&fields).0, known);
        }
    }
}
