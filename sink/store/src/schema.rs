//! Migrations: ordered files with checksums, and what a store still lacks of them. Knows nothing
//! of what the tables mean, nor how a database is asked.

/// One file of a backend's migrations.
pub(crate) struct Migration {
    /// From 1, without gaps.
    pub(crate) version: u32,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

impl Migration {
    /// The name of its file.
    pub(crate) fn file(&self) -> String {
        format!("{:04}_{}.sql", self.version, self.name)
    }

    /// FNV-1a, 64 bits: it has to notice an edit, not to withstand an attack.
    pub(crate) fn checksum(&self) -> i64 {
        checksum(self.sql)
    }

    fn step(&self) -> MigrationStep {
        MigrationStep {
            version: self.version,
            file: self.file(),
            sql: self.sql.to_owned(),
        }
    }
}

pub(crate) fn checksum(text: &str) -> i64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step) as i64
}

/// What a store lacks; empty when nothing is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationPlan {
    /// Version in the store; 0 = it has no tables of ours, or there is no store yet.
    pub found: u32,
    /// Version of this build.
    pub known: u32,
    /// What `migrate` would do, in order.
    pub steps: Vec<MigrationStep>,
}

/// One migration that a store lacks, or that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStep {
    /// Version of the store with it.
    pub version: u32,
    /// Name of the file.
    pub file: String,
    /// What is run.
    pub sql: String,
}

/// An index that a server lacks and need not have, or that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStep {
    /// What it is of.
    pub column: &'static str,
    /// What is run.
    pub sql: String,
}

/// The plan for a store that has the first `done` of `migrations`.
pub(crate) fn plan(migrations: &[Migration], done: usize) -> MigrationPlan {
    let version = |count: usize| {
        let last = migrations[..count].last();
        last.map_or(0, |migration| migration.version)
    };
    MigrationPlan {
        found: version(done),
        known: version(migrations.len()),
        steps: migrations[done..].iter().map(Migration::step).collect(),
    }
}

/// Why a store's record of its migrations cannot be ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    Newer { found: u32, known: u32 },
    Changed { version: u32, file: String },
}

/// How many of `migrations` the store has that recorded these versions and checksums, in order.
pub(crate) fn recorded(
    migrations: &[Migration],
    recorded: &[(u32, i64)],
) -> Result<usize, Mismatch> {
    let known = migrations.last().map_or(0, |migration| migration.version);
    if let Some(&(found, _)) = recorded.last().filter(|(version, _)| *version > known) {
        return Err(Mismatch::Newer { found, known });
    }
    for (migration, (version, found)) in migrations.iter().zip(recorded) {
        if *version != migration.version || *found != migration.checksum() {
            return Err(Mismatch::Changed {
                version: migration.version,
                file: migration.file(),
            });
        }
    }
    Ok(recorded.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a() {
        // Vectors of draft-eastlake-fnv: a stored checksum must mean the same in every build.
        assert_eq!(checksum("") as u64, 0xcbf2_9ce4_8422_2325);
        assert_eq!(checksum("foobar") as u64, 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_plan_holds_what_is_missing_and_an_edit_is_named_by_its_file() {
        let file = |version: u32, sql: &'static str| Migration {
            version,
            name: "test",
            sql,
        };
        let files = [file(1, "a"), file(2, "b")];
        let first = (1, checksum("a"));
        assert_eq!(recorded(&files, &[first]), Ok(1));
        let plan = plan(&files, 1);
        assert_eq!((plan.found, plan.known, plan.steps.len()), (1, 2, 1));
        assert_eq!(plan.steps[0].file, "0002_test.sql");
        let changed = recorded(&files, &[first, (2, checksum("c"))]);
        let file = "0002_test.sql".to_owned();
        assert_eq!(changed, Err(Mismatch::Changed { version: 2, file }));
        let newer = recorded(&files, &[first, (3, 1)]);
        assert_eq!(newer, Err(Mismatch::Newer { found: 3, known: 2 }));
    }
}
