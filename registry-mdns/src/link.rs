//! The library that speaks multicast DNS, as we use it.

use std::fmt;
use std::time::Duration;

use mdns_sd::{
    IfKind, IfPredicate, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo,
    TxtProperty,
};
use micro_registry::{Error, ErrorKind};

use crate::MdnsConfig;
use crate::error::unavailable;
use crate::network;
use crate::outbox::{Effect, Notice};
use crate::text::Found;

/// The type all services of all namespaces are announced as: which service it is stands in the
/// record, as types have at most 15 letters. Its subtype is the service, for browsers.
pub(crate) const SERVICE_TYPE: &str = "_micro._tcp.local.";

/// One daemon, a thread of its own, which browses. Dropping it says goodbye for all that was
/// announced, and ends the thread.
pub(crate) struct Link {
    daemon: ServiceDaemon,
    services: Receiver<ServiceEvent>,
}

impl Link {
    /// Starts to browse.
    ///
    /// # Errors
    ///
    /// `Unavailable`, saying what is in the way.
    pub(crate) fn open(config: &MdnsConfig) -> Result<Self, Error> {
        network::prove(config)?;
        let daemon = ServiceDaemon::new_with_port(config.port).map_err(failed)?;
        let config = config.clone();
        let chosen = IfPredicate::new(move |i| config.selects(&i.name, i.ip()));
        let browsing = daemon
            .set_ip_check_interval(IP_CHECK_SECONDS)
            .and_then(|()| daemon.disable_interface(IfKind::All))
            .and_then(|()| daemon.enable_interface(IfKind::Predicate(chosen)))
            .and_then(|()| daemon.browse(SERVICE_TYPE));
        match browsing {
            Ok(services) => Ok(Self { daemon, services }),
            Err(error) => {
                end(&daemon);
                Err(failed(error))
            }
        }
    }

    /// Waits for news, and gives all there is; none when some of it was lost, as nobody fetched it
    /// in time. Cancel-safe.
    pub(crate) async fn heard(&self) -> Vec<Heard> {
        let first = self.services.recv_async().await.ok();
        first.into_iter().chain(self.services.try_iter()).map(heard).collect()
    }

    /// Forgets what it knew, and asks again: to tell all that at once would be too much as well.
    pub(crate) async fn browse_again(&mut self) -> Result<(), Error> {
        patiently(|| self.daemon.stop_browse(SERVICE_TYPE)).await?;
        self.services = patiently(|| self.daemon.browse(SERVICE_TYPE)).await?;
        Ok(())
    }

    /// Sends, and waits until all is sent.
    pub(crate) async fn send(&self, effects: Vec<Effect>) -> Result<(), Error> {
        for effect in effects {
            match effect {
                Effect::Announce(notice) => {
                    let info = info(&notice)?;
                    patiently(|| self.daemon.register(info.clone())).await?;
                }
                Effect::Withdraw(instance) => {
                    let name = full_name(&instance);
                    patiently(|| self.daemon.unregister(&name)).await?;
                }
            }
        }
        // The daemon does one thing after the other.
        let answer = patiently(|| self.daemon.status()).await?;
        answer.recv_async().await.map_err(|_| unavailable("the mDNS daemon ended"))?;
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        end(&self.daemon);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// News of an instance.
#[derive(Debug)]
pub(crate) enum Heard {
    Found(Found),
    Vanished(String),
    /// Nothing of interest.
    Other,
}

fn heard(event: ServiceEvent) -> Heard {
    let heard = match event {
        ServiceEvent::ServiceResolved(service) => found(&service).map(Heard::Found),
        ServiceEvent::ServiceRemoved(_, name) => label(&name).map(|l| Heard::Vanished(l.into())),
        _ => None,
    };
    heard.unwrap_or(Heard::Other)
}

/// The label of an instance, from its full name.
fn label(full_name: &str) -> Option<&str> {
    full_name.strip_suffix(SERVICE_TYPE)?.strip_suffix('.')
}

fn found(service: &ResolvedService) -> Option<Found> {
    let entry = |property: &TxtProperty| {
        (property.key().to_owned(), property.val().unwrap_or_default().to_vec())
    };
    Some(Found {
        label: label(&service.fullname)?.to_owned(),
        addresses: service.addresses.iter().map(|ip| ip.to_ip_addr()).collect(),
        port: service.port,
        text: service.txt_properties.iter().map(entry).collect(),
    })
}

/// How often the daemon looks for interfaces that came or went.
const IP_CHECK_SECONDS: u32 = 1;

/// How long to wait before a full queue of the daemon is tried again.
const PAUSE: Duration = Duration::from_millis(2);

fn full_name(instance: &str) -> String {
    format!("{instance}.{SERVICE_TYPE}")
}

/// The host is named after the instance: a goodbye takes the addresses of its host along.
fn info(notice: &Notice) -> Result<ServiceInfo, Error> {
    let subtype = format!("_{}._sub.{SERVICE_TYPE}", subtype(&notice.service));
    let host = format!("{}.local.", notice.instance);
    let text: Vec<TxtProperty> = notice.text.iter().cloned().map(TxtProperty::from).collect();
    let info = ServiceInfo::new(&subtype, &notice.instance, &host, "", notice.port, text);
    let mut info = info.map_err(failed)?.enable_addr_auto();
    // The name is unique; to ask around for it first would take a second.
    info.set_requires_probe(false);
    Ok(info)
}

/// A label has at most 63 bytes, and no dots.
fn subtype(service: &str) -> String {
    service.chars().take(62).map(|c| if c == '.' { '-' } else { c }).collect()
}

/// Tries again while the daemon has no room for more to do.
async fn patiently<T>(mut call: impl FnMut() -> mdns_sd::Result<T>) -> Result<T, Error> {
    loop {
        match call() {
            Err(mdns_sd::Error::Again) => tokio::time::sleep(PAUSE).await,
            done => return done.map_err(failed),
        }
    }
}

/// Has the daemon's thread end, which goes on until it is told. Whoever drops a link may be a thread
/// of a runtime, so another one waits while there is no room to tell it.
fn end(daemon: &ServiceDaemon) {
    if is_told_to_end(daemon) {
        return;
    }
    let daemon = daemon.clone();
    let tell = move || {
        for _ in 0..TRIES_TO_END {
            std::thread::sleep(PAUSE);
            if is_told_to_end(&daemon) {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("mdns-end".into()).spawn(tell) {
        tracing::warn!(%error, "no thread to end an mDNS daemon, which goes on");
    }
}

/// A queue without room has some in a moment, unless the daemon hangs.
const TRIES_TO_END: usize = 5_000;

fn is_told_to_end(daemon: &ServiceDaemon) -> bool {
    !matches!(daemon.shutdown(), Err(mdns_sd::Error::Again))
}

fn failed(error: mdns_sd::Error) -> Error {
    let kind = match error {
        mdns_sd::Error::Again | mdns_sd::Error::DaemonShutdown => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, "the mDNS daemon refuses").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use if_addrs::Interface;
    use mdns_sd::DaemonStatus;
    use std::net::UdpSocket;
    use std::sync::{Mutex, mpsc};

    /// A daemon that has no room for more to do is not waited for when its link is dropped, and ends
    /// all the same.
    #[tokio::test]
    async fn a_busy_daemon_is_not_waited_for() {
        let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let daemon = ServiceDaemon::new_with_port(port).unwrap();
        let (tell, is_busy) = mpsc::channel();
        let (release, until_released) = mpsc::channel::<()>();
        let until_released = Mutex::new(until_released);
        let hang = move |_: &Interface| {
            let _ = tell.send(());
            until_released.lock().unwrap().recv().is_ok()
        };
        daemon.enable_interface(IfKind::Predicate(IfPredicate::new(hang))).unwrap();
        is_busy.recv().unwrap();
        while daemon.status().is_ok() {}
        end(&daemon);
        drop(release);
        // An answer may never come when it was asked for just before the end.
        let is_over = || {
            let told = daemon.status().map(|answer| answer.try_recv());
            matches!(told, Ok(Ok(DaemonStatus::Shutdown)))
        };
        let ended = async {
            while !is_over() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the daemon ends");
    }
}
