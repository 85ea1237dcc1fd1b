//! Locks of data directory and store, and the control socket: requests and answers as JSON lines.
//! Must not know how a request is carried out.

pub(crate) mod client;
pub(crate) mod lock;
mod pid_file;
pub(crate) mod server;
pub(crate) mod store_lock;

use serde::{Deserialize, Serialize};

use crate::targets::import::ImportOrder;
use crate::windows::spec::WindowSpec;

/// Name of the socket in `data_dir`.
pub(crate) const SOCKET: &str = "ringwatch.sock";

/// A request line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// All accounts and gauges. They are waited for, a second or two on a quiet node.
    Status,
    /// Which node this is.
    Identity,
    /// Stop as on SIGTERM.
    Drain,
    /// Read configuration, list and changed targets again, as on SIGHUP.
    Reload,
    /// Dispatch nothing (`true`), or go on (`false`).
    Pause {
        /// Whether to pause.
        on: bool,
    },
    /// Check one target now.
    Trigger {
        /// Its id, as text or number.
        target: TargetRef,
        /// Whether the answer is the result of the check, not that it was asked for.
        #[serde(default)]
        wait: bool,
        /// Who asks.
        #[serde(default)]
        by: String,
    },
    /// Check one target no more until it is resumed (`true`), or again (`false`).
    PauseTarget {
        /// Its id, as text or number.
        target: TargetRef,
        /// Whether to pause.
        on: bool,
        /// Who asks.
        #[serde(default)]
        by: String,
    },
    /// Close an open event.
    Close {
        /// Its id, as text or number.
        event: TargetRef,
        /// Why, for the audit log.
        reason: String,
        /// Who asks.
        #[serde(default)]
        by: String,
    },
    /// Add a maintenance window.
    AddWindow {
        /// What is asked for.
        window: WindowSpec,
        /// Who asks.
        #[serde(default)]
        by: String,
    },
    /// Remove a maintenance window.
    RemoveWindow {
        /// Its number.
        id: i64,
        /// Who asks.
        #[serde(default)]
        by: String,
    },
    /// What the memory of the node knows of a target.
    Look {
        /// Its id, as text or number.
        target: TargetRef,
    },
    /// Import a list.
    Import(ImportOrder),
}

/// The id of a target, or of an event, in JSON: text, because numbers above 2⁵³ are not safe; a
/// number is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum TargetRef {
    /// As a number.
    Number(i64),
    /// As text.
    Text(String),
}

impl TargetRef {
    /// The id, if it is one.
    pub(crate) fn id(&self) -> Option<model::TargetId> {
        model::TargetId::new(self.raw()?)
    }

    /// The id of an event, if it is one.
    pub(crate) fn event(&self) -> Option<model::FactId> {
        model::FactId::new(self.raw()?)
    }

    fn raw(&self) -> Option<i64> {
        match self {
            Self::Number(raw) => Some(*raw),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_documented() {
        let parse = |line: &str| serde_json::from_str::<Request>(line);
        assert_eq!(
            parse(r#"{"cmd":"status"}"#).expect("valid"),
            Request::Status
        );
        assert_eq!(
            parse(r#"{"cmd":"pause","on":true}"#).expect("valid"),
            Request::Pause { on: true }
        );
        let Request::Trigger {
            target,
            wait: false,
            ..
        } = parse(r#"{"cmd":"trigger","target":"7"}"#).expect("valid")
        else {
            panic!("a trigger");
        };
        assert_eq!(target.id().map(model::TargetId::get), Some(7));
        assert_eq!(TargetRef::Number(-1).id(), None);
        let import = parse(r#"{"cmd":"import","path":"/t.csv"}"#).expect("valid");
        assert!(matches!(import, Request::Import(order) if !order.prune && !order.strict));
        let close = parse(r#"{"cmd":"close","event":"12","reason":"fixed"}"#).expect("valid");
        assert!(matches!(close, Request::Close { event, .. } if event.event().is_some()));
        let add = r#"{"cmd":"add_window","window":{"all":true,"length":"2h"}}"#;
        assert!(matches!(parse(add), Ok(Request::AddWindow { window, .. }) if window.all));
        assert!(parse(r#"{"cmd":"add_window","window":{"tag":"x"}}"#).is_err());
        assert!(parse(r#"{"cmd":"close","event":"12"}"#).is_err());
        assert!(parse(r#"{"cmd":"stop"}"#).is_err());
        assert!(parse(r#"{"cmd":"pause"}"#).is_err());
    }
}
