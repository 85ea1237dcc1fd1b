//! caddy: what Go's HTTP server makes of handlers that know the length, that do not, and that ask
//! for no chunks.

use std::path::Path;
use std::process::Command;

use super::cells::Seen;
use super::{Brand, Coding, Framing, Ports, page, write};
use crate::conformance::peers::SITE;
use model::FailureClass as C;

pub(super) const BRAND: Brand = Brand {
    name: "caddy",
    configure,
    command,
    ready: "serving initial configuration",
    ways: [
        (Framing::Length, Coding::Identity, Ok("/length")),
        (Framing::Length, Coding::Gzip, Ok("/length-packed")),
        (Framing::Chunked, Coding::Identity, Ok("/chunked")),
        (Framing::Chunked, Coding::Gzip, Ok("/chunked-packed")),
        (Framing::Close, Coding::Identity, Ok("/close")),
        (Framing::Close, Coding::Gzip, Ok("/close-packed")),
    ],
    // Go sees that no handshake begins, and says so in plain text.
    unsecured: Seen::down(C::HttpStatus, 400),
};

fn command(folder: &Path) -> Command {
    let mut command = Command::new(rig::program("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]);
    command.arg(folder.join("Caddyfile"));
    // Where it keeps what it learns.
    for home in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(home, folder);
    }
    command
}

fn configure(folder: &Path, ports: Ports) {
    let place = folder.display();
    let secured = |port: u16, versions: &str| {
        format!(
            "https://:{port} {{\n bind 127.0.0.1\n \
             tls {place}/cert.pem {place}/key.pem {{\n  protocols {versions}\n }}\n \
             import pages\n}}\n"
        )
    };
    let text = format!(
        "{{\n admin off\n auto_https off\n grace_period 100ms\n \
         servers {{\n  protocols h1\n }}\n}}\n\
         (pages) {{\n root * {place}/site\n{}}}\n\
         http://:{} {{\n bind 127.0.0.1\n import pages\n}}\n{}{}{}",
        pages(ports),
        ports.http,
        secured(ports.https, "tls1.2 tls1.3"),
        secured(ports.tls12, "tls1.2 tls1.2"),
        secured(ports.tls13, "tls1.3 tls1.3"),
    );
    write(folder, "Caddyfile", text.as_bytes());
}

fn pages(ports: Ports) -> String {
    let (http, https, page) = (ports.http, ports.https, page());
    let handle = |path: &str, what: &str| format!(" handle {path} {{\n  {what}\n }}\n");
    let file = "rewrite * /page.txt\n  file_server";
    // The length of a long text is not told beforehand; that of a file is, until it is packed.
    let text = format!("respond `{page}` 200");
    // A file that is known to be packed when it is opened has no length either.
    let packed = "header {\n   Content-Encoding gzip\n   defer\n  }\n  \
                  rewrite * /page.txt.gz\n  file_server";
    let unframed = "header Transfer-Encoding identity\n  ";
    [
        handle("/length", file),
        handle("/length-packed", packed),
        handle("/chunked", &text),
        handle("/chunked-packed", &format!("encode gzip\n  {file}")),
        handle("/close", &format!("{unframed}{text}")),
        handle("/close-packed", &format!("{unframed}encode gzip\n  {file}")),
        handle(
            "/by-method",
            "@head method HEAD\n  respond @head 204\n  respond `by GET` 200",
        ),
        handle("/empty", "respond 204"),
        handle("/down", "respond 503"),
        handle("/moved", "redir * /by-method 301"),
        handle(
            "/secure",
            &format!("redir * https://{SITE}:{https}/by-method 301"),
        ),
        handle(
            "/plain",
            &format!("redir * http://{SITE}:{http}/by-method 301"),
        ),
        handle("/loop", "redir * /loop 301"),
        handle("/*", "respond 404"),
    ]
    .concat()
}
