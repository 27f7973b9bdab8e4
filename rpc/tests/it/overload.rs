//! What a server does with more calls than it can run: which wait, which run, which are refused.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use micro_rpc::{
    Channel, ChannelConfig, Code, Criticality, Error, Execution, Limits, MemoryNetwork, Request,
    Response, Router, Server, ServerConfig, ServerHandle, Status,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// How many calls the node of [`node`] runs at once, and how long each takes.
const CAPACITY: usize = 50;
const TAKES: Duration = Duration::from_millis(50);
const PER_SECOND: usize = CAPACITY * 20;

/// A server whose method `work` waits for one of [`CAPACITY`] places and then holds it.
fn node(network: &MemoryNetwork, limits: Limits) -> ServerHandle {
    let places = Arc::new(Semaphore::new(CAPACITY));
    let router = Router::new().route("test", "work", move |request: Request| {
        let places = Arc::clone(&places);
        async move {
            let _place = places.acquire().await.unwrap();
            sleep(TAKES).await;
            Ok(Response::new(request.codec, request.body))
        }
    });
    let config = ServerConfig { limits, ..Default::default() };
    let server = Server::new(router).unwrap().config(config);
    server.start(vec![network.listen("node").unwrap()])
}

fn channel_to_node(network: &MemoryNetwork) -> Channel {
    let limits = Limits { max_in_flight: 10_000, ..Limits::default() };
    let memory = Some(network.clone());
    let config = ChannelConfig { connections: 8, limits, memory, ..Default::default() };
    Channel::new("memory:node".parse().unwrap(), config)
}

/// Calls `work` at a rate, whatever becomes of the calls; returns how many were answered in time.
async fn offer(channel: &Channel, per_second: usize, time: Duration) -> (usize, usize) {
    let (start, each) = (Instant::now(), Duration::from_secs(1) / per_second as u32);
    let offered = (time.as_nanos() / each.as_nanos()) as u32;
    let mut calls = JoinSet::new();
    for number in 0..offered {
        sleep_until(start + number * each).await;
        let channel = channel.clone();
        let mut request = request("work", "");
        request.deadline = Some(Instant::now() + 500 * MS);
        calls.spawn(async move { channel.call(&request).await });
    }
    let answers = calls.join_all().await;
    (answers.iter().filter(|answer| answer.is_ok()).count(), offered as usize)
}

/// During an overload of three times what the node can do, it does nine tenths of it; a second
/// later everything is served again.
#[tokio::test(start_paused = true)]
async fn an_overload_costs_little() {
    let network = MemoryNetwork::new();
    let server = node(&network, Limits::default());
    let channel = channel_to_node(&network);
    let (served, offered) = offer(&channel, PER_SECOND / 2, Duration::from_secs(2)).await;
    assert_eq!(served, offered, "nothing is refused without an overload");
    let (served, _) = offer(&channel, 3 * PER_SECOND, Duration::from_secs(5)).await;
    assert!(served >= 5 * PER_SECOND * 9 / 10, "{served} of {}", 5 * PER_SECOND);
    sleep(Duration::from_secs(1)).await;
    let (served, offered) = offer(&channel, PER_SECOND * 8 / 10, Duration::from_secs(5)).await;
    assert!(served * 100 >= offered * 99, "{served} of {offered}");
    drop(server);
}

/// While something is away that a method needs, it fails at once, and little runs. That teaches
/// nothing of how quick it should be: when it is back, no call is refused.
#[tokio::test(start_paused = true)]
async fn an_outage_behind_the_server_is_over_when_it_is() {
    let is_away = Arc::new(AtomicBool::new(false));
    let away = Arc::clone(&is_away);
    let router = Router::new().route("test", "work", move |request: Request| {
        let is_away = away.load(SeqCst);
        async move {
            sleep(if is_away { 20 * MS } else { 200 * MS }).await;
            match is_away {
                true => Err(Status::new(Code::Unavailable, "the database is away")),
                false => Ok(Response::new(request.codec, request.body)),
            }
        }
    });
    let network = MemoryNetwork::new();
    let server = Server::new(router).unwrap().start(vec![network.listen("node").unwrap()]);
    let channel = channel_to_node(&network);
    for (away, time) in [(false, 3), (true, 10), (false, 5)] {
        is_away.store(away, SeqCst);
        let (served, offered) = offer(&channel, 500, Duration::from_secs(time)).await;
        assert_eq!(served, if away { 0 } else { offered });
    }
    drop(server);
}

fn hang(class: Criticality) -> Request {
    let mut request = request("hang", "");
    request.criticality = class;
    request
}

/// A server of so many places, and of one connection that has them all in use.
async fn full(limits: Limits) -> (ServerHandle, Counts, Channel, JoinSet<Result<Response, Error>>) {
    let places = limits.max_running;
    let (server, counts) = server_with(limits).await;
    let channel = channel(&server);
    let mut running = JoinSet::new();
    for _ in 0..places {
        let channel = channel.clone();
        running.spawn(async move { channel.call(&hang(Criticality::CriticalPlus)).await });
    }
    until("all places are taken", || server.in_flight() == places).await;
    (server, counts, channel, running)
}

/// What finds no place waits, in order of importance, and what finds no place in the queue either
/// is refused with the time after which to try again.
#[tokio::test]
async fn calls_wait_in_a_bounded_queue() {
    let patience = Duration::from_secs(60);
    let limits =
        Limits { max_running: 2, max_queued: 2, max_queue_time: patience, ..Limits::default() };
    let (server, counts, channel, mut running) = full(limits).await;
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let channel = channel.clone();
        waiting.spawn(async move { channel.call(&hang(Criticality::Critical)).await });
    }
    let refused = waiting.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!((refused.code(), refused.execution()), OVERLOADED);
    assert!(refused.retry_after().is_some_and(|wait| wait >= MS));
    assert_eq!(counts.begun(), 2, "what waits has not begun");
    running.abort_all();
    until("those that waited run", || counts.begun() == 4 && server.in_flight() == 2).await;
}

const OVERLOADED: (Code, Execution) = (Code::ResourceExhausted, Execution::Refused);

/// A call is refused once it has waited long enough, and also when its deadline passes first; its
/// method never runs.
#[tokio::test]
async fn what_waits_too_long_is_refused() {
    let queue = |max_queue_time| Limits { max_running: 1, max_queue_time, ..Limits::default() };
    let (_server, counts, channel, _running) = full(queue(5 * MS)).await;
    let error = channel.call(&hang(Criticality::Critical)).await.unwrap_err();
    assert_eq!((error.code(), error.execution(), counts.begun()), (OVERLOADED.0, OVERLOADED.1, 1));

    let (server, counts, _channel, _running) = full(queue(Duration::from_secs(60))).await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&frame(REQUEST, 0, 1, &payload("hang", 5_000, b""))).await;
    let (_, _, answer) = raw.frame().await;
    let refused = 2;
    assert_eq!((answer[0], answer[2]), (Code::DeadlineExceeded as u8, refused));
    assert_eq!(counts.begun(), 1);
}

/// A call that is cancelled while it waits leaves the queue.
#[tokio::test]
async fn what_is_cancelled_leaves_the_queue() {
    let limits = Limits {
        max_running: 1,
        max_queued: 1,
        max_queue_time: Duration::from_secs(60),
        ..Limits::default()
    };
    let (server, counts, channel, mut running) = full(limits).await;
    let mut raw = Raw::connect(&server).await;
    for id in [1, 3] {
        raw.send(&frame(REQUEST, 0, id, &payload("hang", 0, b""))).await;
        if id == 1 {
            raw.send(&frame(CANCEL, 0, id, b"")).await;
            raw.send(&frame(PING, 0, 2, b"")).await;
            assert_eq!(raw.frame().await.0, PONG);
            until("it leaves", || server.queued() == 0).await;
        }
    }
    until("the second waits", || server.queued() == 1).await;
    running.abort_all();
    until("the second runs", || counts.begun() == 2 && server.in_flight() == 1).await;
    drop(channel);
}

/// Of the places each class has its share, so that important calls run where others cannot.
#[tokio::test]
async fn classes_have_their_shares() {
    let limits = Limits { max_running: 20, max_queued: 0, ..Limits::default() };
    let (server, _) = server_with(limits).await;
    let channel = channel(&server);
    let mut calls = JoinSet::new();
    let mut most = Vec::new();
    for class in Criticality::ALL.into_iter().rev() {
        let refused = async {
            loop {
                let before = server.in_flight();
                let (channel, request) = (channel.clone(), hang(class));
                let task = calls.spawn(async move { channel.call(&request).await });
                until("it runs or is refused", || {
                    server.in_flight() > before || task.is_finished()
                })
                .await;
                if task.is_finished() {
                    break;
                }
            }
        };
        refused.await;
        most.push(server.in_flight());
    }
    assert_eq!(most, [10, 15, 19, 20]);
    let refused = channel.call(&hang(Criticality::CriticalPlus)).await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
}

/// A peer that makes more calls than its rate allows has the excess refused, on new connections
/// too.
#[tokio::test]
async fn peers_keep_to_their_rate() {
    let limits = Limits { max_rate_per_peer: Some(2), ..Limits::default() };
    let (server, _) = server_with(limits).await;
    // The clock of the server may let one more pass meanwhile, on a machine that does much else.
    let mut refused = Vec::new();
    for _ in 0..1000 {
        refused.extend(call(&channel(&server), "echo").await.err());
        if refused.len() == 2 {
            break;
        }
    }
    assert_eq!(refused.len(), 2);
    for error in refused {
        assert_eq!((error.code(), error.execution()), OVERLOADED);
        assert!(error.retry_after().is_some_and(|wait| wait >= MS && wait <= 500 * MS));
    }
}

/// What waits is refused at once when the server stops, over HTTP too, while what runs may end; and
/// without any grace nobody is told that a call was begun which was not.
#[tokio::test]
async fn a_server_that_stops_refuses_what_waits() {
    for grace in [Duration::from_secs(60), Duration::ZERO] {
        let patience = Duration::from_secs(3600);
        let limits = Limits { max_running: 2, max_queue_time: patience, ..Limits::default() };
        let (server, counts, channel, mut running) = full(limits).await;
        let mut waiting = JoinSet::new();
        for class in Criticality::ALL {
            let channel = channel.clone();
            waiting.spawn(async move { channel.call(&hang(class)).await });
        }
        #[cfg(feature = "http")]
        let mut http = {
            let mut http = Raw::silent(&server).await;
            let head = "POST /test/hang HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
            http.send(head.as_bytes()).await;
            http
        };
        let expected = Criticality::ALL.len() + usize::from(cfg!(feature = "http"));
        until("they wait", || server.queued() == expected).await;
        let stopping = tokio::spawn(server.shutdown(grace));
        for answer in waiting.join_all().await {
            let error = answer.unwrap_err();
            let kind = (error.code(), error.execution());
            assert_eq!(kind, (Code::Unavailable, Execution::Refused), "{error}");
        }
        #[cfg(feature = "http")]
        {
            let answer = String::from_utf8(http.rest().await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("drain"), "{answer}");
        }
        if grace.is_zero() {
            let error = running.join_next().await.unwrap().unwrap().unwrap_err();
            assert_eq!(error.execution(), Execution::MaybeExecuted);
        } else {
            assert!(!stopping.is_finished() && running.try_join_next().is_none());
            running.abort_all();
        }
        stopping.await.unwrap();
        assert_eq!(counts.begun(), 2);
    }
}

/// While a server refuses calls it still answers pings and what is asked about its health.
#[tokio::test]
async fn health_and_control_frames_are_never_shed() {
    let limits = Limits { max_running: 1, max_queued: 0, ..Limits::default() };
    let (server, _, channel, _running) = full(limits).await;
    assert_eq!(call(&channel, "echo").await.unwrap_err().code(), OVERLOADED.0);
    let mut raw = Raw::connect(&server).await;
    raw.send(&frame(PING, 0, 9, b"")).await;
    assert_eq!(raw.frame().await.0, PONG);
    #[cfg(feature = "http")]
    for (request, status) in [
        ("GET /health/live", "200"),
        ("GET /health/ready", "200"),
        ("GET /describe", "200"),
        ("POST /test/echo", "429"),
    ] {
        let mut raw = Raw::silent(&server).await;
        let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        raw.send(format!("{request} {head}").as_bytes()).await;
        let answer = String::from_utf8(raw.rest().await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(answer.contains("retry-after: 1\r\n"), status == "429", "{answer}");
        assert_eq!(answer.contains("micro-meta-retry-after-ms: "), status == "429", "{answer}");
    }
}

/// What is refused over HTTP is refused before its body is there.
#[cfg(feature = "http")]
#[tokio::test]
async fn bodies_of_what_is_refused_are_not_read() {
    let limits = Limits {
        max_running: 1,
        max_queued: 0,
        stall_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let (server, _, _channel, _running) = full(limits).await;
    let mut raw = Raw::silent(&server).await;
    let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 99\r\n\r\n";
    raw.send(format!("POST /test/echo {head}").as_bytes()).await;
    let answer = String::from_utf8(raw.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
}

/// Places come back from calls that panic, that fail or whose connection closes, whether they ran or
/// waited: with a single place everything is served in the end.
#[tokio::test]
async fn a_single_place_comes_back() {
    let patience = Duration::from_secs(60);
    let limits = Limits { max_running: 1, max_queue_time: patience, ..Limits::default() };
    let (server, counts, channel, mut running) = full(limits.clone()).await;
    let mut gone = Raw::connect(&server).await;
    gone.send(&frame(REQUEST, 0, 1, &payload("hang", 0, b""))).await;
    until("it waits", || server.queued() == 1).await;
    drop(gone);
    until("it left with its connection", || server.queued() == 0).await;
    running.abort_all();
    until("the place is free", || server.in_flight() == 0).await;
    // Each class may have one wait while one runs.
    for method in ["panic_later", "later", "panic", "fail", "panic_later", "later"] {
        let mut calls = JoinSet::new();
        for criticality in Criticality::ALL {
            let (channel, mut request) = (channel.clone(), request(method, "body"));
            request.criticality = criticality;
            calls.spawn(async move { channel.call(&request).await });
        }
        for answer in calls.join_all().await {
            let code = answer.err().map(|error| error.code());
            let expected = match method {
                "later" => None,
                "fail" => Some(Code::NotFound),
                _ => Some(Code::Internal),
            };
            assert_eq!(code, expected, "{method}");
        }
    }
    assert_eq!((server.in_flight(), server.queued(), counts.begun()), (0, 0, 1));
}

/// A place goes to the most important call that waits, and of those to the one that came first; who
/// comes later and matters as much does not pass them.
#[tokio::test]
async fn places_go_to_the_first_of_the_most_important() {
    let patience = Duration::from_secs(60);
    let limits = Limits { max_running: 1, max_queue_time: patience, ..Limits::default() };
    let begun = Arc::new(Mutex::new(Vec::new()));
    let (log, gate) = (Arc::clone(&begun), Arc::new(Semaphore::new(0)));
    let go = Arc::clone(&gate);
    let router = Router::new().route("test", "note", move |request: Request| {
        let (log, go) = (Arc::clone(&log), Arc::clone(&go));
        async move {
            log.lock().unwrap().push(request.criticality);
            go.acquire().await.unwrap().forget();
            Ok(Response::new(request.codec, request.body))
        }
    });
    let config = ServerConfig { limits, ..Default::default() };
    let server = Server::new(router).unwrap().config(config).start(vec![tcp().await]);
    let channel = channel(&server);
    let [most, high, low, least] = Criticality::ALL;
    let mut calls = JoinSet::new();
    for (before, class) in [high, low, high, least, most].into_iter().enumerate() {
        let (channel, mut request) = (channel.clone(), request("note", ""));
        request.criticality = class;
        let answered = calls.spawn(async move { channel.call(&request).await.map(drop) });
        until("it runs, waits or is refused", || {
            server.in_flight() + server.queued() > before || answered.is_finished()
        })
        .await;
    }
    gate.add_permits(5);
    let answers = calls.join_all().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(*begun.lock().unwrap(), [high, most, high, low, least]);
}
