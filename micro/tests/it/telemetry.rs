//! The log of a program that has its own.

use super::*;

/// A program whose log is its own says so, and keeps it.
#[tokio::test(start_paused = true)]
async fn a_log_of_the_programs_own_stays() {
    let town = Town::default();
    let (_service, _) = town.open("a").await;
    let (status, body) = town.send("a", "PUT /log", &[], "debug").await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("failed_precondition"), "{body}");
}
