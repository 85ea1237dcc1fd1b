//! lighttpd: files, packed files, and programs behind it whose output is passed on as it comes,
//! in chunks or, as a server of HTTP/1.0, up to the close.

use std::path::Path;
use std::process::Command;

use super::cells::Seen;
use super::{Brand, Coding, Framing, Ports, write};
use crate::conformance::peers::SITE;
use model::FailureClass as C;

pub(super) const BRAND: Brand = Brand {
    name: "lighttpd",
    configure,
    command,
    ready: "server started",
    ways: [
        (Framing::Length, Coding::Identity, Ok("/page.txt")),
        (Framing::Length, Coding::Gzip, Ok("/packed/page.txt")),
        (Framing::Chunked, Coding::Identity, Ok("/plain.sh")),
        (Framing::Chunked, Coding::Gzip, Ok("/packed.sh")),
        (Framing::Close, Coding::Identity, Ok("/old/plain.sh")),
        (Framing::Close, Coding::Gzip, Ok("/old/packed.sh")),
    ],
    // It closes as soon as no handshake begins.
    unsecured: Seen::down(C::HttpTruncated, 0).unheard(),
};

fn command(folder: &Path) -> Command {
    let mut command = Command::new(rig::program("lighttpd"));
    command
        .arg("-D")
        .arg("-f")
        .arg(folder.join("lighttpd.conf"));
    command
}

fn configure(folder: &Path, ports: Ports) {
    let place = folder.display();
    for (name, said) in [
        ("plain", format!("cat {place}/site/page.txt")),
        ("packed", format!("cat {place}/site/page.txt.gz")),
        ("empty", String::new()),
        ("down", String::new()),
        (
            "by-method",
            "[ \"$REQUEST_METHOD\" = HEAD ] || printf 'by GET'".to_owned(),
        ),
    ] {
        let fields = match name {
            "packed" => "Content-Encoding: gzip\\r\\n",
            "empty" => "Status: 204\\r\\n",
            "down" => "Status: 503\\r\\n",
            "by-method" => "Status: $status\\r\\n",
            _ => "",
        };
        let script = format!(
            "status=200\n[ \"$REQUEST_METHOD\" = HEAD ] && status=204\n\
             printf \"{fields}Content-Type: text/plain\\r\\n\\r\\n\"\n{said}\n"
        );
        write(folder, &format!("site/{name}.sh"), script.as_bytes());
    }
    let secured = |port: u16, versions: &str| {
        format!(
            "$SERVER[\"socket\"] == \"127.0.0.1:{port}\" {{\n ssl.engine = \"enable\"\n \
             ssl.pemfile = \"{place}/cert.pem\"\n ssl.privkey = \"{place}/key.pem\"\n \
             {versions}\n}}\n"
        )
    };
    let only = |version: &str| {
        format!(
            "ssl.openssl.ssl-conf-cmd = (\"MinProtocol\" => \"{version}\", \
             \"MaxProtocol\" => \"{version}\")"
        )
    };
    let (http, https) = (ports.http, ports.https);
    let text = format!(
        "server.modules = (\"mod_rewrite\", \"mod_redirect\", \"mod_alias\", \"mod_cgi\", \
         \"mod_deflate\", \"mod_openssl\")\n\
         server.document-root = \"{place}/site\"\nserver.bind = \"127.0.0.1\"\n\
         server.port = {http}\nserver.stream-response-body = 1\n\
         mimetype.assign = (\".txt\" => \"text/plain\")\ncgi.assign = (\".sh\" => \"/bin/sh\")\n\
         url.rewrite-once = (\"^/(empty|down|by-method)$\" => \"/$1.sh\")\n\
         url.redirect-code = 301\n\
         url.redirect = (\"^/moved$\" => \"/by-method\", \"^/loop$\" => \"/loop\",\n \
         \"^/secure$\" => \"https://{SITE}:{https}/by-method\",\n \
         \"^/plain$\" => \"http://{SITE}:{http}/by-method\")\n\
         alias.url = (\"/old/\" => \"{place}/site/\", \"/packed/\" => \"{place}/site/\")\n\
         $HTTP[\"url\"] =~ \"^/packed/\" {{\n deflate.mimetypes = (\"text/plain\")\n \
         deflate.allowed-encodings = (\"gzip\")\n}}\n\
         $HTTP[\"url\"] =~ \"^/old/\" {{\n server.protocol-http11 = \"disable\"\n}}\n{}{}{}",
        secured(https, ""),
        secured(ports.tls12, &only("TLSv1.2")),
        secured(ports.tls13, &only("TLSv1.3")),
    );
    write(folder, "lighttpd.conf", text.as_bytes());
}
