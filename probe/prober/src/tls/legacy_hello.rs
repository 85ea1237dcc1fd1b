//! The `ClientHello` of a second look: what a browser of about 2012 would send. TLS 1.2 at most,
//! CBC, RC4 and RSA key exchange included, no `supported_versions`. Only its answer is read, no
//! key is ever agreed on: its random part is fixed, and nothing of it is a secret.

/// Suites that are offered, by IANA number: first those of today, so that a server which follows
/// the client's order shows what it has in common with us.
const SUITES: &[u16] = &[
    0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, // ECDHE with GCM or ChaCha20
    0xc009, 0xc013, 0xc00a, 0xc014, 0xc023, 0xc027, 0xc024, 0xc028, // ECDHE with AES-CBC
    0xc0ac, 0xc0ad, // ECDHE with AES-CCM
    0x009e, 0x009f, 0xccaa, 0x0033, 0x0039, 0x0067, 0x006b, // DHE with RSA
    0x00a2, 0x00a3, 0x0032, 0x0038, 0x0040, 0x006a, // DHE with DSS
    0x009c, 0x009d, 0xc09c, 0xc09d, 0x002f, 0x0035, 0x003c, 0x003d, // RSA key exchange
    0x0041, 0x0084, 0x0045, 0x0088, // Camellia
    0xc008, 0xc012, 0x0016, 0x0013, 0x000a, // 3DES
    0xc007, 0xc011, 0x0005, 0x0004, // RC4
];
/// Says that we know of secure renegotiation (RFC 5746 §3.3); not a suite.
const RENEGOTIATION_INFO: u16 = 0x00ff;

/// X25519, P-256, P-384, P-521.
const GROUPS: &[u16] = &[0x001d, 0x0017, 0x0018, 0x0019];
/// ECDSA and RSA with SHA-256 and longer, RSA-PSS, then all with SHA-1, DSA last.
const SIGNATURES: &[u16] = &[
    0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201, 0x0202,
];

mod extension {
    pub(super) const SERVER_NAME: u16 = 0;
    pub(super) const GROUPS: u16 = 10;
    pub(super) const POINT_FORMATS: u16 = 11;
    pub(super) const SIGNATURES: u16 = 13;
    pub(super) const PADDING: u16 = 21;
    pub(super) const EXTENDED_MASTER_SECRET: u16 = 23;
}

/// Some servers of that time hang on a hello of these lengths (RFC 7685 §1).
const BAD_LENGTHS: std::ops::Range<usize> = 256..512;

/// Whether a hello offers `suite`.
pub(super) fn offers(suite: u16) -> bool {
    SUITES.contains(&suite)
}

/// Appends the hello for `name` to `out`, in its record; `None` for a server without a DNS name.
pub(super) fn write(name: Option<&str>, out: &mut Vec<u8>) {
    let mut body = vec![3, 3];
    body.extend_from_slice(b"ringwatch looks again, legacy...");
    // No session id.
    body.push(0);
    let with_signal = [SUITES, &[RENEGOTIATION_INFO]].concat();
    list(&mut body, &with_signal);
    // One compression method: none.
    body.extend_from_slice(&[1, 0]);
    let mut extensions = extensions(name);
    // Handshake header and the length of the extensions come on top.
    let length = 4 + body.len() + 2 + extensions.len();
    if BAD_LENGTHS.contains(&length) {
        let zeros = (BAD_LENGTHS.end - length).saturating_sub(4);
        extend(&mut extensions, extension::PADDING, &vec![0; zeros]);
    }
    sized(&mut body, &extensions);
    let length = (body.len() as u32).to_be_bytes();
    out.extend_from_slice(&[22, 3, 1]);
    out.extend_from_slice(&((body.len() + 4) as u16).to_be_bytes());
    out.extend_from_slice(&[1, length[1], length[2], length[3]]);
    out.extend_from_slice(&body);
}

fn extensions(name: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(name) = name {
        // RFC 6066 §3: a list of one entry of the type host_name.
        let mut entry = vec![0];
        sized(&mut entry, name.as_bytes());
        let mut names = Vec::new();
        sized(&mut names, &entry);
        extend(&mut out, extension::SERVER_NAME, &names);
    }
    let mut groups = Vec::new();
    list(&mut groups, GROUPS);
    extend(&mut out, extension::GROUPS, &groups);
    extend(&mut out, extension::POINT_FORMATS, &[1, 0]);
    let mut signatures = Vec::new();
    list(&mut signatures, SIGNATURES);
    extend(&mut out, extension::SIGNATURES, &signatures);
    extend(&mut out, extension::EXTENDED_MASTER_SECRET, &[]);
    out
}

fn extend(out: &mut Vec<u8>, kind: u16, content: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    sized(out, content);
}

fn list(out: &mut Vec<u8>, numbers: &[u16]) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|one| one.to_be_bytes()).collect();
    sized(out, &bytes);
}

/// Content behind its length in two bytes.
fn sized(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(&(content.len() as u16).to_be_bytes());
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use rustls::ProtocolVersion;
    use rustls::server::Acceptor;

    use super::*;

    fn hello(name: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        write(name, &mut out);
        out
    }

    #[test]
    fn a_server_reads_it_as_a_hello_for_the_name() {
        let bytes = hello(Some("e.test"));
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &bytes[..]).expect("a slice");
        let accepted = acceptor.accept().map_err(|(error, _)| error);
        let accepted = accepted.expect("a good hello").expect("the whole hello");
        let client = accepted.client_hello();
        assert_eq!(client.server_name(), Some("e.test"));
        assert_eq!(client.alpn().map(Iterator::count), None);
        let suites: Vec<u16> = client.cipher_suites().iter().map(|&s| s.into()).collect();
        assert_eq!(suites, [SUITES, &[RENEGOTIATION_INFO]].concat());
        assert_eq!(client.signature_schemes().len(), SIGNATURES.len());
        let groups = client.named_groups().expect("groups");
        assert_eq!(groups.len(), GROUPS.len());
        // A version above 1.2 could only be in the extension that must not be there.
        let version = u16::from(ProtocolVersion::TLSv1_2).to_be_bytes();
        assert_eq!(bytes[9..11], version);
        assert!(
            !bytes
                .windows(4)
                .any(|four| four[..2] == [0, 43] && four[2] == 0)
        );
    }

    #[test]
    fn no_name_gives_a_length_that_old_servers_hang_on() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
        for name in [None, Some("e.test"), Some(&label), Some(&longest)] {
            let bytes = hello(name);
            let length = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
            assert_eq!(bytes.len(), 5 + length);
            assert!(!BAD_LENGTHS.contains(&length), "{name:?}: {length}");
        }
    }
}
