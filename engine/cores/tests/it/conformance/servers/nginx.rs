//! nginx: framing and coding by what its filters leave of the length.

use std::path::Path;
use std::process::Command;

use super::cells::Seen;
use super::{Brand, Coding, Framing, Ports, write};
use crate::conformance::peers::SITE;
use model::FailureClass as C;

pub(super) const BRAND: Brand = Brand {
    name: "nginx",
    configure,
    command,
    // Said of the limit of open files, after the sockets were opened.
    ready: "getrlimit",
    ways: [
        (Framing::Length, Coding::Identity, Ok("/length")),
        (Framing::Length, Coding::Gzip, Ok("/length-packed")),
        (Framing::Chunked, Coding::Identity, Ok("/chunked")),
        (Framing::Chunked, Coding::Gzip, Ok("/chunked-packed")),
        (Framing::Close, Coding::Identity, Ok("/close")),
        (Framing::Close, Coding::Gzip, Ok("/close-packed")),
    ],
    // It sees that no handshake begins, and says so in plain text.
    unsecured: Seen::down(C::HttpStatus, 400),
};

fn command(folder: &Path) -> Command {
    let mut command = Command::new(rig::program("nginx"));
    command.arg("-p").arg(folder);
    command.arg("-c").arg(folder.join("nginx.conf"));
    // Also what it says before it has read its configuration.
    command.args(["-e", "stderr"]);
    command
}

fn configure(folder: &Path, ports: Ports) {
    let place = folder.display();
    // An include, or packing, makes the length unknown; without chunks the close ends the body.
    let pages = format!(
        "location = /length {{ alias {place}/site/page.txt; }}\n\
         location = /length-packed {{ alias {place}/site/page.txt; gzip_static on; }}\n\
         location = /chunked {{ alias {place}/site/page.txt; ssi on; }}\n\
         location = /chunked-packed {{ alias {place}/site/page.txt; gzip on; }}\n\
         location = /close {{\n alias {place}/site/page.txt; ssi on;\n \
         chunked_transfer_encoding off;\n}}\n\
         location = /close-packed {{\n alias {place}/site/page.txt; gzip on;\n \
         chunked_transfer_encoding off;\n}}\n\
         location = /by-method {{\n if ($request_method = HEAD) {{ return 204; }}\n \
         return 200 \"by GET\";\n}}\n\
         location = /empty {{ return 204; }}\nlocation = /down {{ return 503; }}\n\
         location = /moved {{ return 301 /by-method; }}\n\
         location = /secure {{ return 301 https://{SITE}:{https}/by-method; }}\n\
         location = /plain {{ return 301 http://{SITE}:{http}/by-method; }}\n\
         location = /loop {{ return 301 /loop; }}\n",
        https = ports.https,
        http = ports.http,
    );
    write(folder, "pages.conf", pages.as_bytes());
    let secured = |port: u16, versions: &str| {
        format!(
            "server {{\n listen 127.0.0.1:{port} ssl;\n ssl_protocols {versions};\n \
             ssl_certificate {place}/cert.pem;\n ssl_certificate_key {place}/key.pem;\n \
             include {place}/pages.conf;\n}}\n"
        )
    };
    let scratch = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let scratch = scratch
        .map(|name| format!("{name}_temp_path {place}/{name};\n"))
        .concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {place}/nginx.pid;\nerror_log stderr notice;\n\
         events {{ worker_connections 256; }}\n\
         http {{\naccess_log off;\nroot {place}/site;\ndefault_type text/plain;\n\
         ssi_types *;\ngzip_types *;\n{scratch}\
         server {{\n listen 127.0.0.1:{};\n include {place}/pages.conf;\n}}\n{}{}{}}}\n",
        ports.http,
        secured(ports.https, "TLSv1.2 TLSv1.3"),
        secured(ports.tls12, "TLSv1.2"),
        secured(ports.tls13, "TLSv1.3"),
    );
    write(folder, "nginx.conf", text.as_bytes());
}
