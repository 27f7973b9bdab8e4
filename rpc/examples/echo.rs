//! Echo over one connection in one process: calls per second at 1 and 64 in flight.
//!
//! `cargo run --release -p micro-rpc --example echo -- [seconds]`

use std::time::{Duration, Instant};

use bytes::Bytes;
use micro_rpc::{Channel, ChannelConfig, Codec, Listener, Request, Response, Router, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(2), |text| text.parse())?;
    let echo = |request: Request| async move { Ok(Response::new(request.codec, request.body)) };
    let router = Router::new().route("echo", "say", echo);
    let listener = Listener::bind(&"127.0.0.1:0".parse()?).await?;
    let server = Server::new(router)?.start(vec![listener]);
    let channel = Channel::new(server.addresses()[0].clone(), ChannelConfig::default());
    for in_flight in [1, 64, 512] {
        let rate = measure(&channel, in_flight, Duration::from_secs(seconds)).await?;
        println!("{in_flight:4} in flight: {rate:9.0} calls/s");
    }
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

async fn measure(
    channel: &Channel,
    in_flight: usize,
    time: Duration,
) -> Result<f64, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let channel = channel.clone();
        callers.spawn(async move {
            let body = Bytes::from_static(&[7; 64]);
            let mut calls = 0_u64;
            while start.elapsed() < time {
                let request = Request::new("echo", "say", Codec::MessagePack, body.clone());
                channel.call(request).await?;
                calls += 1;
            }
            Ok::<_, micro_rpc::Error>(calls)
        });
    }
    let mut calls = 0;
    while let Some(counted) = callers.join_next().await {
        calls += counted??;
    }
    Ok(calls as f64 / start.elapsed().as_secs_f64())
}
