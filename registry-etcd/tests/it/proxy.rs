//! A connection to a server that can be hurt.

use tokio::io::{copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards connections. Dropping it ends them.
pub(crate) struct Proxy {
    address: String,
    mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Open,
    /// No connection lasts, and there are no new ones.
    Cut,
    /// What is connected leads nowhere, without a word; new connections do.
    Frozen,
    /// What is connected passes requests on, and no answer; new connections do both.
    Mute,
}

impl Proxy {
    pub(crate) async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mode, modes) = watch::channel(Mode::Open);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, modes));
        Self { address, mode, _tasks: tasks }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    pub(crate) fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    pub(crate) fn mute(&self) {
        self.mode.send_replace(Mode::Mute);
    }

    pub(crate) fn mend(&self) {
        self.mode.send_replace(Mode::Open);
    }
}

async fn accept(listener: TcpListener, target: String, modes: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if *modes.borrow() != Mode::Cut {
            // From here on it hears of changes only.
            let mut modes = modes.clone();
            modes.mark_unchanged();
            connections.spawn(forward(client, target.clone(), modes));
        }
    }
}

async fn forward(mut client: TcpStream, target: String, mut modes: watch::Receiver<Mode>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let mode = tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = modes.changed() => *modes.borrow(),
    };
    let cut = async move { _ = modes.wait_for(|mode| *mode == Mode::Cut).await };
    match mode {
        Mode::Frozen => cut.await,
        Mode::Mute => {
            tokio::select! {
                _ = copy(&mut client, &mut server) => {}
                () = cut => {}
            }
        }
        Mode::Open | Mode::Cut => {}
    }
}
