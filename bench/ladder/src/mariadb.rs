//! A private MariaDB as a child process: its own folder and port of loopback, the settings of a
//! production server where they decide what a write costs. It can be frozen, killed and started
//! again, which is what befalls a store.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::children::Running;
use crate::clock::Stopwatch;

const READY_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// Nobody but this machine reaches it, and it is gone after the run.
const USER: &str = "CREATE USER ladder@'127.0.0.1' IDENTIFIED BY 'ladder';
    GRANT ALL ON *.* TO ladder@'127.0.0.1'";

/// What a server is asked to write for a change stream.
pub(crate) const BINLOG: [&str; 3] = ["--log-bin=binlog", "--binlog-format=ROW", "--server-id=1"];

/// A running server.
pub(crate) struct MariaDb {
    running: Running,
    folder: PathBuf,
    port: u16,
    cpu: Option<usize>,
    options: &'static [&'static str],
    frozen: bool,
}

impl MariaDb {
    /// Makes a server in `folder` and waits until it answers; `cpu`: all of it runs there.
    pub(crate) async fn start(folder: &Path, cpu: Option<usize>) -> Result<Self> {
        Self::start_with(folder, cpu, &[]).await
    }

    /// The same with more options.
    pub(crate) async fn start_with(
        folder: &Path,
        cpu: Option<usize>,
        options: &'static [&'static str],
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        install(&folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let running = launch(&folder, port, cpu, options)?;
        let mut server = Self {
            running,
            folder,
            port,
            cpu,
            options,
            frozen: false,
        };
        server.wait_ready().await?;
        server.sql(USER)?;
        Ok(server)
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Its port of 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address of `database` for a node, straight or at the port of a proxy.
    pub(crate) fn url(database: &str, port: u16) -> String {
        format!("mysql://ladder:ladder@127.0.0.1:{port}/{database}")
    }

    /// Makes an empty database.
    pub(crate) fn create(&self, database: &str) -> Result<()> {
        self.sql(&format!(
            "DROP DATABASE IF EXISTS `{database}`; CREATE DATABASE `{database}`"
        ))
        .map(drop)
    }

    /// Runs statements as root; what they answer, columns apart by tabs.
    pub(crate) fn sql(&self, statements: &str) -> Result<String> {
        let output = Command::new(program("mariadb")?)
            .args([
                "--no-defaults",
                "--user=root",
                "-N",
                "-B",
                "--connect-timeout=5",
            ])
            .arg(format!("--socket={}", self.folder.join("socket").display()))
            .args(["-e", statements])
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("MariaDB refused {statements:?}: {}", said.trim());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Stops all of its threads where they are: connections stay, and nobody answers.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        self.running.signal(Signal::STOP)?;
        self.frozen = true;
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        self.running.signal(Signal::CONT)?;
        self.frozen = false;
        Ok(())
    }

    /// Ends it at once; its data stay.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.running.kill()
    }

    /// Starts it again on its data and its port.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.running = launch(&self.folder, self.port, self.cpu, self.options)?;
        self.wait_ready().await
    }

    /// Stops it in an orderly way.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.running.stop(STOP_LIMIT).await.map(drop)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let watch = Stopwatch::start();
        let log = self.folder.join("mariadbd.log");
        while let Err(error) = self.sql("SELECT 1") {
            self.running.must_run(&log)?;
            if watch.elapsed() > READY_LIMIT {
                return Err(error.context(format!("MariaDB was not ready within {READY_LIMIT:?}")));
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}

impl Drop for MariaDb {
    /// A frozen process hears no other signal.
    fn drop(&mut self) {
        if self.frozen {
            let _ = self.running.signal(Signal::CONT);
        }
    }
}

fn install(folder: &Path) -> Result<()> {
    let mut command = Command::new(program("mariadb-install-db")?);
    command.arg("--no-defaults").args(as_root()?);
    command.arg(format!("--datadir={}/data", folder.display()));
    command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
    command.args(["--skip-name-resolve", "--innodb-use-native-aio=0"]);
    let output = command.env("TMPDIR", folder).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("mariadb-install-db failed: {}", said.trim());
    }
    Ok(())
}

fn launch(folder: &Path, port: u16, cpu: Option<usize>, options: &[&str]) -> Result<Running> {
    let server = program("mariadbd")?;
    let mut command = match cpu {
        None => Command::new(&server),
        Some(cpu) => {
            // It becomes the server: the process is the same.
            let mut command = Command::new("taskset");
            command.args(["-c", &cpu.to_string()]).arg(&server);
            command
        }
    };
    command.arg("--no-defaults").args(as_root()?);
    command.arg(format!("--datadir={}/data", folder.display()));
    // A server that starts removes what it finds of others in a folder that they share.
    command.arg(format!("--tmpdir={}", folder.display()));
    command.arg(format!("--socket={}/socket", folder.display()));
    command.args([
        &format!("--port={port}"),
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=1G",
        "--innodb-log-file-size=512M",
        "--innodb-flush-log-at-trx-commit=1",
        "--innodb-use-native-aio=0",
    ]);
    command.args(options);
    let log = folder.join("mariadbd.log");
    Running::start("mariadbd", &mut command, &log, Stdio::null())
}

/// The server refuses to run as root unless it is told to.
fn as_root() -> Result<Option<&'static str>> {
    Ok((std::fs::metadata("/proc/self")?.uid() == 0).then_some("--user=root"))
}

/// Debian keeps servers where a person's PATH does not look.
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("{name} is missing: `cargo xtask test` installs it or says how"))
}
