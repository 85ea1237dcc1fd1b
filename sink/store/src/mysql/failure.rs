//! What the driver and the server say, as the sentences of [`StoreError`].

use mysql_async::{DriverError as Misuse, Error as DriverError, IoError, ServerError};

use super::address::MysqlUrl;
use super::legacy::STREAM_CONNECTIONS;
use super::session::Lane;
use crate::StoreError;

/// Why no connection was made.
pub(super) fn connecting(url: &MysqlUrl, error: DriverError) -> StoreError {
    let store = url.to_string();
    match error {
        DriverError::Server(error) => server(url, error),
        DriverError::Io(IoError::Io(cause)) if has_tls_inside(&cause) => StoreError::Tls {
            store,
            detail: cause.to_string(),
        },
        DriverError::Io(IoError::Io(cause)) if is_ca_file(url, &cause) => StoreError::Tls {
            store,
            detail: format!("tls_ca cannot be read: {cause}"),
        },
        DriverError::Io(IoError::Io(cause)) => StoreError::Unreachable {
            store,
            detail: cause.to_string(),
        },
        DriverError::Io(IoError::Tls(cause)) => StoreError::Tls {
            store,
            detail: cause.to_string(),
        },
        DriverError::Driver(Misuse::NoClientSslFlagFromServer) => StoreError::Tls {
            store,
            detail: "the server offers none".to_owned(),
        },
        other => StoreError::Unreachable {
            store,
            detail: other.to_string(),
        },
    }
}

/// rustls speaks through the errors of the stream.
fn has_tls_inside(cause: &std::io::Error) -> bool {
    cause.kind() == std::io::ErrorKind::InvalidData
}

/// The only file that a connection reads.
fn is_ca_file(url: &MysqlUrl, cause: &std::io::Error) -> bool {
    url.tls_ca.is_some() && url.socket.is_none() && cause.kind() == std::io::ErrorKind::NotFound
}

/// Why a statement failed on a connection that was made.
pub(super) fn working(url: &MysqlUrl, error: DriverError) -> StoreError {
    match error {
        DriverError::Server(error) => server(url, error),
        DriverError::Io(cause) => StoreError::ConnectionLost {
            store: url.to_string(),
            detail: match cause {
                IoError::Io(cause) => cause.to_string(),
                IoError::Tls(cause) => cause.to_string(),
            },
        },
        error @ DriverError::Driver(Misuse::PacketTooLarge) => StoreError::PacketRefused {
            store: url.to_string(),
            detail: error.to_string(),
        },
        other => StoreError::ConnectionLost {
            store: url.to_string(),
            detail: other.to_string(),
        },
    }
}

/// Numbers: MySQL 8 reference, B.3.1; the others use the same.
fn server(url: &MysqlUrl, error: ServerError) -> StoreError {
    let store = url.to_string();
    let ServerError {
        code,
        message: detail,
        ..
    } = error;
    match code {
        // Access denied for this user.
        1045 | 1698 | 1130 => StoreError::LoginRefused { store },
        1049 => StoreError::NoDatabase {
            store,
            database: url.database.clone(),
        },
        // To the database, a command, a column, a routine, an operation.
        1044 | 1142 | 1143 | 1227 | 1370 => StoreError::NoPrivilege { store, detail },
        // --read-only, a table that may only be read, a transaction, a server in upgrade.
        1290 | 1036 | 1792 | 1836 => StoreError::ServerReadOnly { store, detail },
        // Disk full, a table that cannot grow.
        1021 | 1114 => StoreError::ServerDiskFull { store, detail },
        // A file that cannot be written, the storage engine's own error.
        3 | 1026 | 1030 if is_no_space(&detail) => StoreError::ServerDiskFull { store, detail },
        // Larger than max_allowed_packet.
        1153 => StoreError::PacketRefused { store, detail },
        // No database of the session, no table, no column, no index: there were, when it was
        // opened.
        1046 | 1051 | 1054 | 1146 | 1176 => StoreError::TableGone { store, detail },
        // Lock wait timeout, deadlock; TiDB's conflicts of writes and of a table that changed
        // meanwhile, which it says may be done again.
        1205 | 1213 | 8002 | 8005 | 8022 | 8028 | 9007 => StoreError::Contended { store, detail },
        // Connections of all, of a user; a user's share of something, mostly of connections.
        1040 | 1203 | 1226 => StoreError::TooManyConnections {
            store,
            detail,
            needed: Lane::connections(),
            with_stream: Lane::connections() + STREAM_CONNECTIONS,
        },
        // Shutdown, killed, "not ready yet".
        1053 | 1077 | 1079 | 1152 | 1317 | 1927 | 4031 => {
            StoreError::ConnectionLost { store, detail }
        }
        _ => StoreError::Server {
            store,
            code,
            detail,
        },
    }
}

/// Whether the server names the system's error 28, "no space left on device". MariaDB says
/// `error 28 "No …"`, `(errno: 28 "No …")` and `(Errcode: 28 "No …")`, MySQL `error 28 - 'No …'`
/// and `(OS errno 28 - No …)`; a file may be called anything.
fn is_no_space(detail: &str) -> bool {
    ["error 28", "errno 28", "errno: 28", "Errcode: 28"]
        .into_iter()
        .flat_map(|named| detail.match_indices(named))
        .any(|(at, named)| {
            let rest = &detail[at + named.len()..];
            !rest.starts_with(|next: char| next.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16) -> StoreError {
        said(code, "what the server said")
    }

    fn said(code: u16, message: &str) -> StoreError {
        let url: MysqlUrl = "mysql://u:s3cret@h/d".parse().expect("valid");
        let error = ServerError {
            code,
            message: message.to_owned(),
            state: "HY000".to_owned(),
        };
        working(&url, DriverError::Server(error))
    }

    /// Lesson: every message with the digits 28 in it, error 128 of the engine among them, was a
    /// full disk, and somebody freed space on a server that was short of memory.
    #[test]
    fn a_full_disk_is_the_number_28_and_no_other() {
        let is_full = |code, message| {
            let error = said(code, message);
            matches!(error, StoreError::ServerDiskFull { .. })
        };
        for (code, message) in [
            (
                1030,
                "Got error 28 \"No space left on device\" from storage engine InnoDB",
            ),
            (1030, "Got error 28 from storage engine"),
            (
                1030,
                "Got error 28 - 'No space left on device' from storage engine",
            ),
            (
                1026,
                "Error writing file './t/x.MYI' (errno: 28 \"No space left on device\")",
            ),
            (
                3,
                "Error writing file '/tmp/ML2' (Errcode: 28 \"No space left on device\")",
            ),
            (
                3,
                "Error writing file '/tmp/ML2' (OS errno 28 - No space left on device)",
            ),
        ] {
            assert!(is_full(code, message), "{message}");
        }
        for (code, message) in [
            (
                1030,
                "Got error 128 \"Out of memory in engine\" from storage engine InnoDB",
            ),
            (
                1030,
                "Got error 281 \"Unknown error\" from storage engine InnoDB",
            ),
            (
                1026,
                "Error writing file './t/t_28' (errno: 5 \"Input/output error\")",
            ),
            (
                3,
                "Error writing file '/tmp/ML28' (Errcode: 5 \"Input/output error\")",
            ),
        ] {
            assert!(!is_full(code, message), "{message}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_somebody_must_change() {
        for code in [1205, 1213, 1053, 1040, 1203, 1226, 1317, 1927] {
            assert!(told(code).is_transient(), "{code}");
        }
        for code in [1045, 1049, 1142, 1290, 1062, 1146, 1176] {
            assert!(!told(code).is_transient(), "{code}");
        }
        for code in [1021, 1114] {
            assert!(
                matches!(told(code), StoreError::ServerDiskFull { .. }),
                "{code}"
            );
        }
        for code in [1205, 1213] {
            assert!(matches!(told(code), StoreError::Contended { .. }), "{code}");
        }
        for code in [1040, 1203, 1226] {
            let sentence = told(code).to_string();
            let needed = "a node needs 6, and 8 with a stream of changes";
            assert!(sentence.contains(needed), "{code}: {sentence}");
        }
        let refused = [told(1153), {
            let url: MysqlUrl = "mysql://u@h/d".parse().expect("valid");
            working(&url, DriverError::Driver(Misuse::PacketTooLarge))
        }];
        for error in refused {
            let sentence = error.to_string();
            assert!(sentence.contains("raise max_allowed_packet"), "{sentence}");
            assert!(!error.is_transient(), "{sentence}");
        }
        let sentence = told(1062).to_string();
        assert!(
            sentence.contains("error 1062: what the server said"),
            "{sentence}"
        );
        assert!(sentence.contains("mysql://u:***@h:3306/d"), "{sentence}");
    }
}
