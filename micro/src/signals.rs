//! The signals that end a program.

use crate::Result;
#[cfg(unix)]
use crate::{Code, Error, Phase};

/// The signals that end a program: SIGTERM and SIGINT, which is Ctrl-C; elsewhere than on Unix
/// Ctrl-C.
///
/// [`Service::run`](crate::Service::run) and [`Group::run`](crate::Group::run) listen for
/// themselves. It is for programs that end in an order of their own, such as those that serve none.
///
/// ```no_run
/// # async fn example() -> micro::Result<()> {
/// let mut signals = micro::Signals::listen()?;
/// // What is to be ended begins here.
/// let signal = signals.next().await;
/// println!("{signal}: a second one does not wait");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "signals that nobody waits for end nothing"]
pub struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Listens from now on: for the rest of the process they end nothing by themselves.
    ///
    /// # Errors
    ///
    /// `internal` when the operating system refuses.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Error::at(Code::Internal, Phase::Start, "cannot listen for signals")
                    .with_source(error)
            })
        };
        let terminate = listen(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next one, and names it.
    ///
    /// # Cancel safety
    ///
    /// One that comes while nobody waits is what the next wait ends with.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Listens from now on, or from when it is first waited for.
    ///
    /// # Errors
    ///
    /// None here.
    pub fn listen() -> Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one, and names it.
    ///
    /// # Cancel safety
    ///
    /// One that comes while nobody waits is lost.
    pub async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "ctrl-c",
            Err(_) => std::future::pending().await,
        }
    }
}
