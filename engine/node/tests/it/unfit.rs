//! Configurations that this machine cannot start with are refused by whoever accepts one.

use std::fs;

use crate::process::{
    Node, ask, assert_says, code, run, run_command, status_until, stderr, stdout, text,
};

/// Lines that only a look at the machine refuses, with the key and what is accepted. No machine
/// has the address (TEST-NET-1, RFC 5737) or so many CPUs.
const UNFIT: [(&str, &str, &str); 5] = [
    (
        "probe_cores = [1000000]",
        "probe_cores",
        "found 1000000, accepted are the CPUs",
    ),
    (
        "source_addresses = ['192.0.2.1']",
        "source_addresses",
        "`ip address add 192.0.2.1/32",
    ),
    (
        "user_agent = 'bücher'",
        "user_agent",
        "must be 1 to 256 printable ASCII characters",
    ),
    (
        "ca_file = '/none/ca.pem'",
        "ca_file",
        "/none/ca.pem cannot be read",
    ),
    (
        "ca_file = '/dev/null'",
        "ca_file",
        "/dev/null: the CA bundle has no usable certificate",
    ),
];

#[test]
fn what_a_start_refuses_validate_refuses_too_and_nothing_is_made() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (file, data) = (dir.path().join("c.toml"), dir.path().join("d"));
    for (line, key, accepted) in UNFIT {
        let data_dir = format!("data_dir = '{}'\nadmin = '127.0.0.1:0'\n", data.display());
        fs::write(&file, format!("{data_dir}{line}\n")).expect("written");
        for command in ["validate", "run"] {
            let output = run(&[command, "--config", text(&file), "--dns", "127.0.0.1:9"]);
            assert_eq!(code(&output), 2, "{line}: {}", stderr(&output));
            assert_says(&output, &format!("ringwatch: {}: {key}: ", file.display()));
            assert_says(&output, accepted);
            assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
            assert!(!data.exists(), "{command}: {line}");
            // What was read is shown all the same.
            assert_eq!(stdout(&output).contains(key), command == "validate");
        }
    }
}

#[test]
fn what_the_next_start_would_refuse_a_reload_refuses_and_the_node_goes_on() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (file, data) = (dir.path().join("c.toml"), dir.path().join("d"));
    fs::write(&file, "").expect("written");
    let mut command = run_command(&data);
    command.args(["--config", text(&file)]);
    let mut node = Node::start(command);
    node.wait_for("loaded");
    for (line, key, accepted) in UNFIT {
        fs::write(&file, format!("{line}\n")).expect("written");
        let answer = ask(&data, r#"{"cmd":"reload"}"#);
        let error = answer["error"].as_str().unwrap_or_default();
        let expected = format!("{}: {key}: ", file.display());
        assert!(
            error.starts_with(&expected) && error.contains(accepted),
            "{answer}"
        );
        node.wait_for("reload refused, the old configuration goes on");
    }
    // The control plane keeps off the CPUs of its probe cores: they may be named all the same.
    let status = status_until(&data, |status| status["state"] == "running");
    let line = format!(
        "probe_cores = [{}]\nconfirm_after = 5\n",
        status["cores"][0]["cpu"]
    );
    fs::write(&file, line).expect("written");
    let answer = ask(&data, r#"{"cmd":"reload"}"#);
    assert_eq!(answer["ok"], true, "{answer}");
    let keys = answer["needs_restart"].as_array().expect("names");
    assert!(keys.contains(&"confirm_after".into()), "{answer}");
}
