//! Nodes that answer what they should not.

use std::time::Duration;

use micro_rpc::{Channel, ChannelConfig, Code, Error, Execution, Limits, Phase};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::*;

/// A node of which only the first answer is wrong: what `answer` makes of the call's id. After that
/// it closes the connection, if `closes`, or serves properly.
struct Node {
    channel: Channel,
    serving: JoinHandle<()>,
}

impl Node {
    async fn start(answer: impl Fn(u64) -> Vec<u8> + Send + 'static, closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let limits = Limits { max_frame: 50_000, ..Limits::default() };
        let channel = Channel::new(address, ChannelConfig { limits, ..patient() });
        let serving = tokio::spawn(async move {
            let mut answer = Some(answer);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that closes the connection is what some rows are about.
                let _ = serve(stream, &mut answer, closes).await;
            }
        });
        Self { channel, serving }
    }

    async fn call(&self) -> Result<String, Error> {
        let mut call = request("echo", "");
        call.deadline = Some(Instant::now() + Duration::from_secs(20));
        let answer = self.channel.call(&call).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Calls until a call is sent: after a connection on which nothing was ever answered, that
    /// takes a moment.
    async fn call_again(&self) -> Result<String, Error> {
        loop {
            match self.call().await {
                Err(error) if error.execution() == Execution::NotSent => {
                    sleep(Duration::from_millis(10)).await;
                }
                outcome => return outcome,
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    wrong: &mut Option<impl Fn(u64) -> Vec<u8>>,
    closes: bool,
) -> std::io::Result<()> {
    stream.write_all(&PREFACE).await?;
    stream.read_exact(&mut [0; 16]).await?;
    loop {
        let length = stream.read_u32().await?;
        let mut rest = vec![0; length as usize];
        stream.read_exact(&mut rest).await?;
        if rest[0] != REQUEST {
            continue;
        }
        let id = u64::from_be_bytes(*rest[2..].first_chunk().unwrap());
        match wrong.take() {
            Some(wrong) => stream.write_all(&wrong(id)).await?,
            None => stream.write_all(&good(id)).await?,
        }
        if closes {
            return Ok(());
        }
    }
}

fn good(id: u64) -> Vec<u8> {
    frame(RESPONSE, 0, id, b"\0\x02\0\0\0good")
}

type Expected = Result<&'static str, (Code, Execution)>;
type Row = (&'static str, fn(u64) -> Vec<u8>, Expected);

const LOST: Expected = Err((Code::Unavailable, Execution::MaybeExecuted));
const UNREADABLE: Expected = Err((Code::Internal, Execution::MaybeExecuted));
const GOOD: Expected = Ok("good");

const FRAMES: [Row; 15] = [
    ("length 0", |_| vec![0; 14], LOST),
    ("length 9", |_| [&[0, 0, 0, 9][..], &[RESPONSE; 9]].concat(), LOST),
    ("length 4 GiB - 1", |_| vec![0xff; 14], LOST),
    ("text", |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), LOST),
    ("an unknown type", |_| frame(99, 0, 0, b""), LOST),
    ("a request", |id| frame(REQUEST, 0, id, &payload("echo", 0, b"")), LOST),
    ("a cancel", |id| frame(CANCEL, 0, id, b""), LOST),
    ("an optional unknown type", |id| [frame(99, 1, id, b"x"), good(id)].concat(), GOOD),
    ("a response to nothing", |id| [good(id + 1), good(0), good(id)].concat(), GOOD),
    ("a response twice", |id| good(id).repeat(2), GOOD),
    (
        "pings and pongs",
        |id| [frame(PING, 0, 1, b"x"), frame(PONG, 0, 2, b""), good(id)].concat(),
        GOOD,
    ),
    ("an announcement", |id| [frame(GO_AWAY, 0, u64::MAX, b""), good(id)].concat(), GOOD),
    ("a go-away above all", |id| [frame(GO_AWAY, 0, u64::MAX - 1, b""), good(id)].concat(), GOOD),
    (
        "a go-away below",
        |id| [frame(GO_AWAY, 0, id - 1, b""), good(id)].concat(),
        Err((Code::Unavailable, Execution::Refused)),
    ),
    (
        "above the limit",
        |id| frame(RESPONSE, 0, id, &[0; 60_000]),
        Err((Code::ResourceExhausted, Execution::Executed)),
    ),
];

const ANSWERS: [Row; 11] = [
    ("nothing", |id| frame(RESPONSE, 0, id, b""), UNREADABLE),
    ("a status alone", |id| frame(RESPONSE, 0, id, b"\0"), UNREADABLE),
    ("an unknown codec", |id| frame(RESPONSE, 0, id, b"\0\x4d\0\0\0"), UNREADABLE),
    ("metadata beyond the end", |id| frame(RESPONSE, 0, id, b"\0\x02\0\0\x09k"), UNREADABLE),
    ("metadata of 64 KiB", |id| frame(RESPONSE, 0, id, b"\0\x02\0\xff\xff"), UNREADABLE),
    ("a key twice", |id| frame(RESPONSE, 0, id, b"\0\x02\0\0\x08\x01k\0\0\x01k\0\0"), UNREADABLE),
    (
        "a message beyond the end",
        |id| frame(RESPONSE, 0, id, b"\x05\x02\0\0\0\0\x09no"),
        UNREADABLE,
    ),
    (
        "a message that is no UTF-8",
        |id| frame(RESPONSE, 0, id, b"\x05\x02\0\0\0\0\x01\xff"),
        UNREADABLE,
    ),
    (
        "an unknown code",
        |id| frame(RESPONSE, 0, id, b"\xc8\x02\0\0\0\0\0"),
        Err((Code::Unknown, Execution::Executed)),
    ),
    (
        "refused and interrupted",
        |id| frame(RESPONSE, 0, id, b"\x0e\x02\x06\0\0\0\0"),
        Err((Code::Unavailable, Execution::Refused)),
    ),
    ("unknown flags", |id| frame(RESPONSE, 0, id, b"\0\x02\xf8\0\0good"), GOOD),
];

/// Each wrong answer costs that call, or the connection at worst, and the next call that is sent is
/// answered.
#[tokio::test]
async fn table() {
    for (what, answer, expected) in FRAMES.into_iter().chain(ANSWERS) {
        let node = Node::start(answer, false).await;
        let got = node.call().await;
        let got = got.as_deref().map_err(|error| (error.code(), error.execution()));
        assert_eq!(got, expected, "{what}");
        assert_eq!(node.call_again().await.unwrap(), "good", "{what}");
    }
}

/// An answer that ends anywhere is a lost connection, and the call may have been executed.
#[tokio::test]
async fn truncation() {
    for cut in 0..good(1).len() {
        let node = Node::start(move |id| good(id)[..cut].to_vec(), true).await;
        let error = node.call().await.unwrap_err();
        assert_eq!((error.code(), error.phase()), (Code::Unavailable, Phase::Wait), "{cut}");
        assert_eq!(error.execution(), Execution::MaybeExecuted, "{cut}");
        assert_eq!(node.call_again().await.unwrap(), "good");
    }
}

/// Random answers end the call in one way or another, and the next one is answered.
#[tokio::test]
async fn random_bytes() {
    let nodes = (0..150).map(async |seed| {
        let answer = move |id| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = [good(id), frame(PING, 0, 0, b""), vec![0; 100]].concat();
            match seed % 2 {
                0 => random.fill(&mut bytes),
                _ => (0..2).for_each(|_| *random.choice(&mut bytes[..40]).unwrap() = random.u8(..)),
            }
            bytes
        };
        let node = Node::start(answer, true).await;
        // Changes may leave it a good answer.
        let _ = node.call().await;
        assert_eq!(node.call_again().await.unwrap(), "good", "{seed}");
    });
    futures::future::join_all(nodes).await;
}

/// A node whose preface is wrong, late or missing was sent nothing.
#[tokio::test]
async fn prefaces() {
    let with = |at: usize, byte: u8| {
        let mut preface = PREFACE.to_vec();
        preface[at] = byte;
        preface
    };
    let rows = [
        ("nothing", Vec::new()),
        ("half of it", PREFACE[..9].to_vec()),
        ("zeros", vec![0; 40]),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("another version", with(4, 2)),
        ("a frame limit of 0", with(9, 0)),
        ("no calls in flight", with(14, 0)),
    ];
    for (what, preface) in rows {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let channel = Channel::new(address, patient());
        let node = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 16]).await.unwrap();
            stream.write_all(&preface).await.unwrap();
        };
        let (error, ()) = tokio::join!(call(&channel, "echo"), node);
        let error = error.unwrap_err();
        assert_eq!((error.code(), error.phase()), (Code::Unavailable, Phase::Connect), "{what}");
        assert_eq!(error.execution(), Execution::NotSent, "{what}");
    }
}
