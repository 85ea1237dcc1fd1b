//! HTTP: healthy pages, bad requests, and every HTTP fault.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

use rustix::io::Errno;

use crate::running::{ANSWER, Farm, PATIENCE, fault, request, shells};

#[test]
fn a_healthy_site_answers_and_closes_in_order() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &[]);
        let page = farm.fetch("GET", 7).expect("no reset");
        let (head, body) = page.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nConnection: close"), "{head}");
        assert!(
            head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
            "{head}"
        );
        assert!(body.len() > 900 && body.contains("ringwatch-farm-canary"));
        assert_eq!(
            farm.fetch("HEAD", 7).expect("no reset"),
            format!("{head}\r\n\r\n")
        );
    }
}

#[test]
fn a_request_that_comes_byte_by_byte_is_the_same_request() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &[]);
        let mut stream = farm.connect("http_port").expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        for byte in request("GET", 99).bytes() {
            stream.write_all(&[byte]).expect("sent");
        }
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("no reset");
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    }
}

#[test]
fn bad_requests_are_answered_with_their_status() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &[]);
        for (bytes, status) in [
            ("\u{1}\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: s-0000100.farm.test\r\n\r\n", "404"),
            (
                "POST / HTTP/1.1\r\nHost: s-0000001.farm.test\r\n\r\n",
                "405",
            ),
        ] {
            let mut stream = farm.connect("http_port").expect("a connection");
            stream.write_all(bytes.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("no reset");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
    }
}

#[test]
fn a_peer_that_says_nothing_and_leaves_does_no_harm() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &[]);
        for key in ["http_port", "https_port", "refuse_port"] {
            drop(farm.connect(key).expect("a connection"));
            let mut half = farm.connect(key).expect("a connection");
            half.write_all(b"GET / HT").expect("sent");
            half.shutdown(Shutdown::Write).expect("half closed");
        }
        assert!(
            farm.fetch("GET", 1)
                .expect("no reset")
                .starts_with("HTTP/1.1 200 ")
        );
    }
}

#[test]
fn a_status_fault_holds_its_sites_only_and_its_method_only() {
    let scenario = fault("kind = 'status', status = 503, first_site = 5, count = 3")
        + &fault("kind = 'status', status = 404, first_site = 20, method = 'HEAD'")
        + &fault("kind = 'status', status = 204, first_site = 30");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        let status = |method, site| {
            let answer = farm.fetch(method, site).expect("no reset");
            answer.split(' ').nth(1).expect("a status").to_owned()
        };
        let found = [4, 5, 7, 8].map(|site| status("GET", site));
        assert_eq!(found, ["200", "503", "503", "200"]);
        assert_eq!([status("HEAD", 20), status("GET", 20)], ["404", "200"]);
        assert!(
            farm.fetch("GET", 30)
                .expect("no reset")
                .ends_with("\r\n\r\n")
        );
    }
}

#[test]
fn nothing_fails_before_the_scenario_starts() {
    for shell in shells() {
        let farm = Farm::start(shell, &fault("kind = 'reset', first_site = 1"), &[]);
        assert!(
            farm.fetch("GET", 1)
                .expect("no reset")
                .starts_with("HTTP/1.1 200 ")
        );
    }
}

#[test]
fn a_reset_is_a_reset() {
    for shell in shells() {
        let farm = Farm::with(shell, &fault("kind = 'reset', first_site = 1"));
        let error = farm.fetch("GET", 1).expect_err("reset");
        assert_eq!(error.raw_os_error(), Some(Errno::CONNRESET.raw_os_error()));
    }
}

#[test]
fn silence_is_silent() {
    let scenario =
        fault("kind = 'silence', first_site = 1") + &fault("kind = 'silence_body', first_site = 2");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        let mut mute = farm.ask("GET", 1);
        mute.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let error = mute.read(&mut [0; 10]).expect_err("nothing comes");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);

        let mut headed = farm.ask("GET", 2);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            headed.read_exact(&mut byte).expect("a head");
            head.extend(byte);
        }
        headed.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let error = headed.read(&mut [0; 10]).expect_err("no body comes");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let head = String::from_utf8(head).expect("text");
        assert!(head.contains("Content-Length: 1024"), "{head}");

        farm.until("two silent connections", || {
            farm.summary()["farm"]["silent_connections"] == 2
        });
        drop((mute, headed));
        farm.until("the end of both", || {
            farm.summary()["farm"]["silent_connections"] == 0
        });
    }
}

#[test]
fn the_oldest_silence_ends_for_one_more_than_asked_for() {
    let scenario = fault("kind = 'silence', first_site = 1, count = 3");
    for shell in shells() {
        let farm = Farm::start(shell, &scenario, &["--silent-max", "2"]);
        assert_eq!(farm.control("POST", "/scenario/start").0, 200);
        let silent = |count: u64| {
            farm.until("silence", || {
                farm.summary()["farm"]["silent_connections"] == count
            });
        };
        let mut oldest = farm.ask("GET", 1);
        silent(1);
        let _others = farm.ask("GET", 2);
        silent(2);
        let _newest = farm.ask("GET", 3);
        let read = oldest.read(&mut [0; 10]).expect("an end, no reset");
        assert_eq!(read, 0);
        silent(2);
    }
}

#[test]
fn a_truncated_body_ends_early_and_in_order() {
    for shell in shells() {
        let farm = Farm::with(shell, &fault("kind = 'truncated', first_site = 1"));
        let page = farm.fetch("GET", 1).expect("a close, no reset");
        let (head, body) = page.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.contains("Content-Length: 1024"), "{head}");
        assert!(!body.is_empty() && body.len() < 1_024, "{}", body.len());
    }
}

#[test]
fn a_slow_first_byte_comes_after_all() {
    let keys = "kind = 'slow_first_byte', delay_ms = 10000, first_site = 1";
    for shell in shells() {
        let farm = Farm::with(shell, &fault(keys));
        let mut slow = farm.ask("GET", 1);
        let other = farm.fetch("GET", 2).expect("a page");
        assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
        slow.set_nonblocking(true).expect("a socket");
        let error = slow.read(&mut [0; 10]).expect_err("not yet");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        slow.set_nonblocking(false).expect("a socket");
        let mut page = String::new();
        slow.read_to_string(&mut page).expect("the page");
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    }
}

#[test]
fn a_refused_port_has_no_listener_and_comes_back() {
    let scenario =
        "[[fault]]\nkind = 'refuse'\nfirst_site = 1\ncount = 2\nduration_s = 'until-ended'\n";
    for shell in shells() {
        let farm = Farm::start(shell, scenario, &[]);
        let page = || {
            let mut stream = farm.connect("refuse_port")?;
            stream.write_all(request("GET", 1).as_bytes())?;
            let mut page = String::new();
            stream.read_to_string(&mut page).map(|_| page)
        };
        assert!(page().expect("open before").starts_with("HTTP/1.1 200 "));
        assert_eq!(farm.control("POST", "/scenario/start").0, 200);
        let refused = Some(Errno::CONNREFUSED.raw_os_error());
        farm.until("ECONNREFUSED", || {
            farm.connect("refuse_port")
                .is_err_and(|error| error.raw_os_error() == refused)
        });
        assert_eq!(farm.control("POST", "/scenario/end").0, 204);
        assert_eq!(farm.control("POST", "/scenario/end").0, 409);
        farm.until("the way back", || {
            page().is_ok_and(|page| page.starts_with("HTTP/1.1 200 "))
        });
    }
}

#[test]
fn a_black_hole_drops_connections_and_comes_back() {
    let scenario = "[[fault]]\nkind = 'black_hole'\nfirst_site = 1\nduration_s = 'until-ended'\n";
    for shell in shells() {
        let farm = Farm::start(shell, scenario, &[]);
        let page = |patience| {
            let address = (Ipv4Addr::new(127, 1, 2, 3), farm.port("refuse_port")).into();
            let mut stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.write_all(request("GET", 1).as_bytes())?;
            let mut page = String::new();
            stream.read_to_string(&mut page).map(|_| page)
        };
        let before = page(ANSWER).expect("open before");
        assert!(before.starts_with("HTTP/1.1 200 "));
        assert_eq!(farm.control("POST", "/scenario/start").0, 200);
        let is_dark = || page(PATIENCE).is_err_and(|error| error.kind() == ErrorKind::TimedOut);
        farm.until("silence", is_dark);
        assert!(is_dark() && is_dark(), "nobody gets in meanwhile");
        assert!(
            farm.fetch("GET", 2).is_ok(),
            "other sites are not concerned"
        );
        assert_eq!(farm.control("POST", "/scenario/end").0, 204);
        farm.until("the way back", || {
            page(PATIENCE).is_ok_and(|page| page.starts_with("HTTP/1.1 200 "))
        });
    }
}
