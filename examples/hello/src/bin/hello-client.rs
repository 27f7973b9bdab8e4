//! The shortest client: `cargo run -p hello --bin hello-client`.

#[tokio::main]
async fn main() -> micro::Result<()> {
    let client = micro::Client::connect().await?;
    let greeter = hello::GreeterClient::new(&client);
    println!("{}", greeter.hello("Ann").await?);
    Ok(())
}
