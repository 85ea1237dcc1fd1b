//! A real MariaDB for tests: a private folder, socket and loopback port, started once per test
//! binary (or for one test alone) and ended by its process number, whatever becomes of the tests.
//!
//! Where `RINGWATCH_TEST_MYSQLD` names a server of MySQL, which Debian has not, that one runs in
//! its place.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{certificates, free_port, is_root, program};

/// The environment's word for the `mysqld` that runs in place of MariaDB.
const MYSQLD: &str = "RINGWATCH_TEST_MYSQLD";

/// The user of most tests may do everything in databases called `t_…`. Its password shows what
/// must be escaped in an address.
const USERS: &str = "\
CREATE USER ringwatch@'%' IDENTIFIED BY 'pa:ss@word';
GRANT ALL ON `t\\_%`.* TO ringwatch@'%';
CREATE USER reader@'%' IDENTIFIED BY 'pa:ss@word';
GRANT SELECT ON `t\\_%`.* TO reader@'%';
FLUSH PRIVILEGES;
";

/// Starts the server and ends it when standard input ends, as it does when the process that holds
/// the other end is gone. Signals of a terminal must not end it before, nor words that nobody
/// reads. The log is the server's alone: it ends with it.
const KEEPER: &str = "\
trap '' INT TERM HUP PIPE
folder=$1; shift
\"$@\" </dev/null &
pid=$!
exec 2>/dev/null
read -r word
kill -9 $pid
wait $pid 2>/dev/null
[ \"$word\" = keep ] || rm -rf \"$folder\"
";

/// A server that runs until this value, or this process, is gone.
pub struct Server {
    folder: PathBuf,
    port: u16,
    keeper: Option<Child>,
}

/// The server that the tests of this process share.
pub fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[]))
}

/// Whether it is MySQL's server that runs: it has words and numbers of its own for some refusals.
pub fn is_mysql() -> bool {
    mysqld().is_some()
}

fn mysqld() -> Option<PathBuf> {
    std::env::var_os(MYSQLD).map(PathBuf::from)
}

/// The name of a database that no other test has.
pub fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("t_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Server {
    /// Starts a server of its own with more options.
    pub fn start(options: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ringwatch-mariadb-")
            .tempdir()
            .expect("a folder")
            .keep();
        certificates::write(&folder);
        install(&folder);
        let mut server = Self {
            folder,
            port: free_port(),
            keeper: None,
        };
        server.run(options);
        server.sql(USERS);
        server
    }

    /// Ends the server at once, as a power cut would; its data stay.
    pub fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            let mut word = keeper.stdin.take().expect("piped");
            word.write_all(b"keep\n").expect("the keeper listens");
            drop(word);
            keeper.wait().expect("the keeper ends");
        }
    }

    /// Starts it again on its data and its port.
    pub fn run(&mut self, options: &[&str]) {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.folder)
            .arg(mysqld().unwrap_or_else(|| program("mariadbd")))
            .args(self.arguments())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for the tests.
            .process_group(0)
            .spawn()
            .expect("a shell");
        let log = BufReader::new(keeper.stderr.take().expect("piped"));
        self.keeper = Some(keeper);
        wait_until_ready(log);
    }

    fn arguments(&self) -> Vec<String> {
        let folder = self.folder.display();
        let mut arguments = vec!["--no-defaults".to_owned()];
        arguments.extend(as_root());
        arguments.extend([
            format!("--datadir={folder}/data"),
            // A server that starts removes what it finds of others in a folder that they share.
            format!("--tmpdir={folder}"),
            format!("--socket={folder}/socket"),
            format!("--port={}", self.port),
            format!("--ssl-ca={folder}/ca.pem"),
            format!("--ssl-cert={folder}/cert.pem"),
            format!("--ssl-key={folder}/key.pem"),
            "--bind-address=127.0.0.1".to_owned(),
            "--skip-name-resolve".to_owned(),
            "--max-connections=400".to_owned(),
            "--innodb-buffer-pool-size=64M".to_owned(),
            "--innodb-use-native-aio=0".to_owned(),
            // Nobody misses these data after a power cut.
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
        ]);
        if is_mysql() {
            // What MariaDB does not do unless it is told to.
            let more = ["--mysqlx=OFF", "--skip-log-bin", "--secure-file-priv=NULL"];
            arguments.extend(more.map(str::to_owned));
        }
        arguments
    }

    /// Port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its Unix socket, where root needs no password.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Who signed its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The address of `database` for a user, who has the password of all of them.
    pub fn address(&self, user: &str, database: &str) -> String {
        let port = self.port;
        format!("mysql://{user}:pa%3Ass%40word@127.0.0.1:{port}/{database}")
    }

    /// Runs statements as root, with the server's own client.
    pub fn sql(&self, statements: &str) -> String {
        let mut client = self.client();
        let mut input = client.stdin.take().expect("piped");
        input.write_all(statements.as_bytes()).expect("written");
        drop(input);
        let output = client.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statements}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Begins a transaction with `statement`, which answers with a row, and leaves it open.
    pub fn hold(&self, statement: &str) -> Held {
        let mut client = self.client();
        let input = client.stdin.as_mut().expect("piped");
        writeln!(input, "START TRANSACTION;\n{statement};").expect("written");
        let output = client.stdout.as_mut().expect("piped");
        let mut row = String::new();
        BufReader::new(output).read_line(&mut row).expect("read");
        assert!(!row.is_empty(), "{statement}");
        Held(client)
    }

    fn client(&self) -> Child {
        Command::new(program("mariadb"))
            .args(["--no-defaults", "--user=root", "-N", "-B", "--unbuffered"])
            .arg(format!("--socket={}", self.socket().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client starts")
    }
}

/// A transaction that is open; it is rolled back with this value.
#[derive(Debug)]
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            // It ends the server and removes the folder.
            drop(keeper.wait());
        }
    }
}

/// Reads the log until the server takes connections, and further on in the background, or its pipe
/// would fill.
fn wait_until_ready(log: impl BufRead + Send + 'static) {
    let mut lines = log.lines().map_while(Result::ok);
    let mut said = Vec::new();
    let ready = lines.by_ref().any(|line| {
        said.push(line);
        let last = said.last().expect("just pushed");
        last.contains("ready for connections")
    });
    assert!(ready, "the server did not start:\n{}", said.join("\n"));
    std::thread::spawn(move || lines.for_each(drop));
}

/// Makes the server's own tables.
fn install(folder: &Path) {
    let mut command = match mysqld() {
        Some(mysqld) => initialize(mysqld),
        None => install_db(),
    };
    command
        .args(as_root())
        .arg(format!("--datadir={}/data", folder.display()))
        .args(["--skip-name-resolve", "--innodb-use-native-aio=0"])
        // Temporary tables are named after the process, whose number others may have, too.
        .arg(format!("--tmpdir={}", folder.display()));
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

fn install_db() -> Command {
    let mut command = Command::new(program("mariadb-install-db"));
    command.args(["--no-defaults", "--skip-test-db"]);
    command.arg("--auth-root-authentication-method=normal");
    command
}

fn initialize(mysqld: PathBuf) -> Command {
    let mut command = Command::new(mysqld);
    command.args(["--no-defaults", "--initialize-insecure"]);
    command
}

/// The server refuses to run as root unless it is told to.
fn as_root() -> Option<String> {
    is_root().then(|| "--user=root".to_owned())
}
