//! A service and a client with layers around them.
//!
//! Run it: `cargo run -p middleware`. It serves, calls itself five times, of which the server allows
//! three, once with a bad token, and ends. The log tells what each layer did.

use std::num::NonZeroU32;
use std::time::Duration;

use micro::layer::from_fn;
use micro::{Client, Service, Settings};
use middleware::{
    DiaryClient, DiaryServer, Shared, Timing, authenticate, limit_rate, log_attempt, per_hour,
    send_token,
};

const THREE: NonZeroU32 = NonZeroU32::new(3).expect("it is not zero");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::from_process()?;
    let telemetry = micro::telemetry::init(&settings)?;
    let timing = |method: &str, took: Duration| tracing::info!(method, ?took, "served");

    let limiter = per_hour(THREE);

    // The layer that is added first sees each request first.
    let service = Service::new()
        .settings(settings.clone())
        .serve(DiaryServer::new(Shared))
        .layer(Timing::new(timing))
        .layer(from_fn(authenticate))
        .layer(from_fn(move |request, next| limit_rate(limiter.clone(), request, next)))
        .start()
        .await?;

    let client = Client::connect()
        .settings(settings.clone())
        .wait_for_ready(true)
        .layer(from_fn(|request, next| send_token("token-of-Ann", request, next)))
        .attempt_layer(from_fn(log_attempt))
        .await?;
    let diary = DiaryClient::new(&client);
    for _ in 0..5 {
        match diary.owner().await {
            Ok(name) => println!("the diary of {name}"),
            Err(error) => println!("{error}"),
        }
    }

    let guess = from_fn(|request, next| send_token("please", request, next));
    let stranger = Client::connect().settings(settings).wait_for_ready(true).layer(guess).await?;
    if let Err(error) = DiaryClient::new(&stranger).owner().await {
        println!("{error}");
    }
    service.shutdown().await;
    telemetry.shutdown().await;
    Ok(())
}
