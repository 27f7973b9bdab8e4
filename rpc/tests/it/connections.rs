//! More connections than a server has room for.

use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::log::Log;
use crate::support::*;

/// A process without file descriptors says so once, and once that it has some again; connections
/// that were open work meanwhile.
#[test]
fn descriptors_run_out() {
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "ulimit -n 40 && exec '{}' --exact connections::with_few_descriptors --ignored",
        this.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The part of [`descriptors_run_out`] that is in a process of its own.
#[tokio::test]
#[ignore = "takes all file descriptors of its process"]
async fn with_few_descriptors() {
    let log = Log::new();
    let (server, _) = server().await;
    let channel = channel(&server);
    assert_works(&channel).await;
    for round in 1..=2 {
        let mut taken = Vec::new();
        while let Ok(stream) = TcpStream::connect(server.addresses()[0].to_string()).await {
            taken.push(stream);
        }
        until("it fails", || log.count("WARN message=cannot accept connections") > 0).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_works(&channel).await;
        drop(taken);
        let reached = Raw::connect(&server).await;
        drop(reached);
        assert_eq!(log.count("cannot accept connections"), 1, "round {round}");
        assert_eq!(log.count("INFO message=connections can be accepted again"), 1);
    }
}
