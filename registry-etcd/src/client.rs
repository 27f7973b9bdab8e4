//! The client: requests that go to another server when one does not answer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use micro_registry::{Error, ErrorKind};
use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use crate::EtcdConfig;
use crate::failure::{self, Advice, Failure, advice};
use crate::login::{Login, Slot, Token};
use crate::proto::{AuthenticateRequest, AuthenticateResponse, path};
use crate::server::{Complaint, Line, Server};

/// All servers of a cluster, one of which is asked.
#[derive(Debug)]
pub(crate) struct Client {
    servers: Vec<Server>,
    /// Which one is asked; another one after each failure.
    current: AtomicUsize,
    login: Option<Login>,
    deadline: Duration,
    request_timeout: Duration,
}

/// What a caller asked for: any number of requests within one deadline.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    client: &'a Client,
    deadline: Instant,
    /// What each server's last failure was.
    failures: Vec<Option<Complaint>>,
    /// Which servers were asked since the last pause.
    asked: Vec<bool>,
    has_logged_in: bool,
}

/// A request that is to be made, and where.
pub(crate) struct Attempt<'a> {
    client: &'a Client,
    index: usize,
    pub(crate) line: Line,
    slot: Option<Slot>,
    began: Instant,
    until: Instant,
    /// Whether it has come to an end, so that it is known what became of it.
    is_judged: AtomicBool,
}

/// A caller with less patience than ours gives a silent server up as well: the next call is to go to
/// another.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_judged.load(Ordering::Relaxed) && self.began.elapsed() > SILENCE {
            self.client.go_on_from(self.index);
        }
    }
}

impl Client {
    /// A client without connections.
    pub(crate) fn new(config: &EtcdConfig) -> Result<Self, Error> {
        let servers = Server::all(config)?;
        Ok(Self {
            // Not all processes are to begin with the same one.
            current: AtomicUsize::new(fastrand::usize(..servers.len().max(1))),
            servers,
            login: config.user.clone().map(Login::new),
            // So that what happened at the servers is told before somebody else's patience ends.
            deadline: config.deadline.mul_f64(0.9),
            request_timeout: config.request_timeout,
        })
    }

    pub(crate) fn task(&self) -> Task<'_> {
        Task {
            client: self,
            deadline: Instant::now() + self.deadline,
            failures: vec![None; self.servers.len()],
            asked: vec![false; self.servers.len()],
            has_logged_in: false,
        }
    }

    /// Has the next request ask for a token.
    pub(crate) fn forget_token(&self) {
        if let Some(login) = &self.login {
            login.forget(&login.slot());
        }
    }

    /// The next call begins at the server after this one, unless somebody went on already.
    fn go_on_from(&self, index: usize) {
        let next = (index + 1) % self.servers.len();
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// What a request carries besides its message.
    pub(crate) fn dress<Q>(message: Q, token: Option<&Token>) -> Request<Q> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        // A server that has lost its leader is to say so, instead of waiting for one.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(Some(token)) = token {
            metadata.insert("token", token.clone());
        }
        request
    }
}

impl<'a> Task<'a> {
    /// Asks until there is an answer, or the deadline passes, or no server can be connected to.
    ///
    /// A request that was repeated may have been carried out more than once.
    pub(crate) async fn ask<Q, A>(&mut self, path: &'static str, message: &Q) -> Result<A, Failure>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        loop {
            let attempt = self.attempt().await?;
            let asking = async {
                let request = Client::dress(message.clone(), attempt.token().await?);
                attempt.line.ask(path, request).await
            };
            let outcome = attempt.in_time(asking).await;
            if let Some(answer) = self.judge(&attempt, outcome)? {
                return Ok(answer);
            }
        }
    }

    /// Where to try next.
    pub(crate) async fn attempt(&mut self) -> Result<Attempt<'a>, Failure> {
        let index = self.next_server().await?;
        let client = self.client;
        let line = client.servers[index].line();
        let slot = client.login.as_ref().map(Login::slot);
        let began = Instant::now();
        let until = (began + client.request_timeout).min(self.deadline);
        let is_judged = AtomicBool::new(false);
        Ok(Attempt { client, index, line, slot, began, until, is_judged })
    }

    /// What the outcome of an attempt means: the answer, or that there is to be another attempt.
    pub(crate) fn judge<T>(
        &mut self,
        attempt: &Attempt<'_>,
        outcome: Result<T, Status>,
    ) -> Result<Option<T>, Failure> {
        attempt.is_judged.store(true, Ordering::Relaxed);
        let status = match outcome {
            Ok(answer) => {
                self.client.servers[attempt.index].has_answered();
                self.asked[attempt.index] = false;
                return Ok(Some(answer));
            }
            Err(status) => status,
        };
        let advice = match advice(&status) {
            Advice::LogIn if self.has_logged_in || attempt.slot.is_none() => Advice::Accept,
            advice => advice,
        };
        if !failure::is_ours(&status) {
            self.client.servers[attempt.index].has_answered();
        }
        match advice {
            Advice::Accept => return Err(Failure::Refused(status)),
            Advice::LogIn => self.log_in_again(attempt),
            Advice::AskAnother => self.failed(attempt, &status),
        }
        Ok(None)
    }

    fn log_in_again(&mut self, attempt: &Attempt<'_>) {
        self.has_logged_in = true;
        self.asked[attempt.index] = false;
        if let (Some(login), Some(slot)) = (&self.client.login, &attempt.slot) {
            login.forget(slot);
        }
    }

    fn failed(&mut self, attempt: &Attempt<'_>, status: &Status) {
        let index = attempt.index;
        if failure::is_ours(status) {
            self.client.servers[index].doubt(&attempt.line);
        }
        self.failures[index] = Some(self.client.servers[index].complaint(status));
        self.client.go_on_from(index);
    }

    /// The server to ask now: the current one, or the next that was not asked since the last pause.
    async fn next_server(&mut self) -> Result<usize, Failure> {
        if self.asked.iter().all(|asked| *asked) {
            let is_hopeless = |failure: &Option<Complaint>| {
                failure.as_ref().is_some_and(|complaint| complaint.is_hopeless)
            };
            if self.failures.iter().all(is_hopeless) {
                return Err(self.give_up());
            }
            self.asked.fill(false);
            sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
        if Instant::now() >= self.deadline {
            return Err(self.give_up());
        }
        let count = self.asked.len();
        let current = self.client.current.load(Ordering::Relaxed);
        let index = (0..count).map(|step| (current + step) % count).find(|i| !self.asked[*i]);
        let index = index.expect("one that was not asked is left: all of them led to a pause");
        self.asked[index] = true;
        Ok(index)
    }

    /// What happened at each server.
    fn give_up(&self) -> Failure {
        let servers = self.client.servers.iter().zip(&self.failures);
        let what = servers.map(|(server, failure)| {
            let words = failure.as_ref().map_or("not asked", |failure| &failure.words);
            format!("{}: {words}", server.address())
        });
        let what = what.collect::<Vec<_>>().join("; ");
        Failure::Unavailable(Error::new(
            ErrorKind::Unavailable,
            format!("etcd cannot be reached: {what}"),
        ))
    }
}

impl Attempt<'_> {
    /// The token to send, which is asked for if there is none.
    pub(crate) async fn token(&self) -> Result<Option<&Token>, Status> {
        let (Some(login), Some(slot)) = (&self.client.login, &self.slot) else { return Ok(None) };
        slot.get_or_try_init(|| log_in(&self.line, login)).await.map(Some)
    }

    /// The outcome, or that it takes too long.
    pub(crate) async fn in_time<T>(
        &self,
        trying: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let timeout = self.client.request_timeout;
        timeout_at(self.until, trying).await.unwrap_or_else(|_| Err(failure::silence(timeout)))
    }
}

/// How long a server may say nothing before a caller who leaves makes it doubtful.
const SILENCE: Duration = Duration::from_millis(250);

/// How long to wait, more or less, when all servers failed.
const PAUSE: Duration = Duration::from_millis(100);

async fn log_in(line: &Line, login: &Login) -> Result<Token, Status> {
    let user = &login.user;
    let request = AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
    match line.ask(path::AUTHENTICATE, Client::dress(request, None)).await {
        Ok(AuthenticateResponse { token }) => {
            let unusable = |_| Status::internal("the token has characters no header may have");
            let mut token: MetadataValue<_> = token.parse().map_err(unusable)?;
            token.set_sensitive(true);
            Ok(Some(token))
        }
        // As etcd's own clients do: the user may be configured before it is asked for.
        Err(status)
            if status.code() == Code::FailedPrecondition
                && status.message().contains("authentication is not enabled") =>
        {
            Ok(None)
        }
        Err(status) => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is left by a caller after a while without an answer is not asked first by the next one; who
    /// is left at once is.
    #[tokio::test(start_paused = true)]
    async fn impatient_callers_teach_something() {
        let client = Client::new(&EtcdConfig::new(["a:1", "b:1"])).unwrap();
        let first = client.current.load(Ordering::Relaxed);
        drop(client.task().attempt().await);
        assert_eq!(client.current.load(Ordering::Relaxed), first);
        let mut task = client.task();
        let attempt = task.attempt().await;
        tokio::time::advance(SILENCE * 2).await;
        drop(attempt);
        assert_eq!(client.current.load(Ordering::Relaxed), 1 - first);
    }
}
