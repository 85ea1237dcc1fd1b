//! A kernel that refuses system calls, as container runtimes do: the built program under a seccomp
//! filter.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::process::{Node, code, ringwatch, run_command, status_until, stderr};

/// `io_uring_setup`, `io_uring_enter`, `io_uring_register`, on every architecture.
const IO_URING: [i64; 3] = [425, 426, 427];
/// Newer architectures share one table of numbers.
const GETRANDOM: i64 = if cfg!(target_arch = "x86_64") {
    318
} else {
    278
};
/// What Docker's default profile answers.
const EPERM: u32 = 1;

/// Does `work` on a thread that the kernel refuses `calls`, and so every process that it starts.
/// Other tests are not touched.
fn refused<T: Send + 'static>(calls: &[i64], work: impl FnOnce() -> T + Send + 'static) -> T {
    let rules: BTreeMap<_, _> = calls.iter().map(|&call| (call, Vec::new())).collect();
    let thread = std::thread::spawn(|| {
        let arch = std::env::consts::ARCH.try_into().expect("a known one");
        let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(EPERM));
        let filter = SeccompFilter::new(rules, allow, refuse, arch).expect("a filter");
        let program: BpfProgram = filter.try_into().expect("a program");
        seccompiler::apply_filter(&program).expect("the kernel takes filters");
        work()
    });
    thread.join().expect("no panic")
}

#[test]
fn a_wanted_driver_that_is_refused_is_one_sentence() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut command = run_command(&dir.path().join("d"));
    command.args(["--driver", "io_uring"]);
    let output = refused(&IO_URING, move || {
        command.output().expect("ringwatch starts")
    });
    let said = stderr(&output);
    assert_eq!(code(&output), 1, "{said}");
    assert!(said.starts_with("ringwatch: probe core 0: "), "{said}");
    assert!(said.contains("io_uring"), "{said}");
    assert_eq!(said.matches("Operation not permitted").count(), 1, "{said}");
    assert!(said.contains("see `ringwatch doctor`"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn where_io_uring_is_refused_auto_says_that_it_fell_back_and_probes_on_epoll() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let mut command = run_command(&data);
    command.args(["--driver", "auto"]);
    let mut node = refused(&IO_URING, move || Node::start(command));
    let line = node.wait_for("io_uring is refused here");
    assert!(
        line.contains("WARN") && line.contains("probing on epoll instead"),
        "{line}"
    );
    let status = status_until(&data, |status| status["state"] == "running");
    assert_eq!(status["driver"], "epoll");
    let note = status["driver_note"].as_str().unwrap_or_default();
    assert!(
        note.starts_with("io_uring is refused here (Operation not permitted"),
        "{note}"
    );
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
}

#[test]
fn without_random_numbers_nothing_starts_and_one_sentence_says_what_to_allow() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut start = run_command(&dir.path().join("d"));
    let mut check = ringwatch();
    check.args(["check", "http://127.0.0.1:9/"]);
    let outputs = refused(&[GETRANDOM], move || {
        [&mut start, &mut check].map(|command| command.output().expect("ringwatch starts"))
    });
    for output in outputs {
        let said = stderr(&output);
        assert_eq!(code(&output), 1, "{said}");
        let expected = "ringwatch: the kernel refuses random numbers to this process (Operation \
                        not permitted (os error 1)), and DNS answers could be forged without \
                        them: allow it the system call getrandom\n";
        assert_eq!(said, expected);
    }
}
