//! Answers that are wrong on purpose, and connections that fail before there is a request.

use std::io::{ErrorKind, Read as _, Write as _};

use rustix::io::Errno;

use crate::running::{ANSWER, Farm, PATIENCE, fault, request, shells};

#[test]
fn redirects_lead_in_circles_and_along_a_chain() {
    let scenario = fault("kind = 'redirect_loop', first_site = 1")
        + &fault("kind = 'redirect_chain', first_site = 2");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        let location = |site, path: &str| {
            let mut stream = farm.connect("http_port").expect("a connection");
            let request = request("GET", site).replace("GET /", &format!("GET {path}"));
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("no reset");
            let line = answer
                .lines()
                .find_map(|line| line.strip_prefix("Location: "));
            line.map(str::to_owned)
        };
        assert_eq!(location(1, "/").as_deref(), Some("/loop"));
        assert_eq!(location(1, "/loop").as_deref(), Some("/loop"));
        let mut path = "/".to_owned();
        let mut hops = 0;
        while let Some(next) = location(2, &path) {
            (path, hops) = (next, hops + 1);
        }
        assert_eq!((path.as_str(), hops), ("/hop/15", 15));
    }
}

#[test]
fn a_reset_in_the_head_and_in_the_body_comes_after_a_part_of_it() {
    let scenario = fault("kind = 'reset_head', first_site = 1")
        + &fault("kind = 'reset_body', first_site = 2");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        for (site, whole_head) in [(1, false), (2, true)] {
            let mut bytes = Vec::new();
            let error = farm.ask("GET", site).read_to_end(&mut bytes);
            let error = error.expect_err("reset");
            assert_eq!(error.raw_os_error(), Some(Errno::CONNRESET.raw_os_error()));
            let text = String::from_utf8(bytes).expect("ASCII");
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
            assert_eq!(text.contains("\r\n\r\n"), whole_head, "{text}");
        }
    }
}

#[test]
fn a_drip_comes_in_little_pieces_and_a_page_overtakes_it() {
    for shell in shells() {
        let farm = Farm::with(shell, &fault("kind = 'drip', first_site = 1"));
        let mut stream = farm.ask("GET", 1);
        // More than comes within a minute, and less than a head.
        let mut some = [0; 64];
        let mut piece = || stream.read(&mut some).expect("a piece");
        assert!((1..64).contains(&piece()));
        let page = farm.fetch("GET", 2).expect("a page");
        assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
        assert!((1..64).contains(&piece()));
    }
}

#[test]
fn connections_end_at_the_accept_while_the_fault_holds() {
    for shell in shells() {
        let open = |kind: &str| {
            format!("[[fault]]\nkind = '{kind}'\nfirst_site = 1\nduration_s = 'until-ended'\n")
        };
        for kind in ["close_at_accept", "reset_at_accept", "silence_at_accept"] {
            let farm = Farm::start(shell, &open(kind), &[]);
            let page = |patience| {
                let mut stream = farm.connect("refuse_port")?;
                stream.set_read_timeout(Some(patience))?;
                // A reset may be there before the request is.
                let written = stream.write_all(request("GET", 1).as_bytes());
                let mut page = String::new();
                written.and(stream.read_to_string(&mut page))?;
                Ok::<_, std::io::Error>(page)
            };
            let before = page(ANSWER).expect("well before");
            assert!(before.starts_with("HTTP/1.1 200 "));
            assert_eq!(farm.control("POST", "/scenario/start").0, 200);
            let is_silent = kind == "silence_at_accept";
            match (kind, page(if is_silent { PATIENCE } else { ANSWER })) {
                ("close_at_accept", Ok(page)) => assert_eq!(page, ""),
                ("reset_at_accept", Err(error)) => {
                    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                    assert!(kinds.contains(&error.kind()), "{error}");
                }
                ("silence_at_accept", Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                }
                (_, other) => panic!("{kind}: {other:?}"),
            }
            assert_eq!(farm.control("POST", "/scenario/end").0, 204);
            farm.until("the way back", || {
                page(PATIENCE).is_ok_and(|page| page.starts_with("HTTP/1.1 200 "))
            });
        }
    }
}

#[test]
fn a_port_that_flaps_closes_and_opens_again() {
    let scenario = fault("kind = 'refuse', period_s = 0.4, first_site = 11");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        for _ in 0..2 {
            farm.until("a refusal", || farm.connect("refuse_port").is_err());
            farm.until("a connection", || farm.connect("refuse_port").is_ok());
        }
        let (_, truth) = farm.control("GET", "/truth");
        assert!(truth.lines().count() >= 2, "{truth}");
    }
}
