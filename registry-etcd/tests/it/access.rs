//! Users, certificates, and servers that are not there.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use micro_registry::directory::{Directory, Keys, LeaseFor, Put};
use micro_registry::{Error, ErrorKind, Registry, Scope, Update, View};
use micro_registry_etcd::{Etcd, EtcdConfig, EtcdRegistry, EtcdUser};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{next, node, open, service, soon, until};
use testbed::etcd::{self as server, Server, free_port};

const TTL: Duration = Duration::from_secs(60);

fn open_url(url: &str) -> EtcdRegistry {
    let config = EtcdConfig::from_url(url.parse().unwrap()).unwrap();
    micro_registry_etcd::open(&config).unwrap()
}

async fn refusal(url: &str) -> Error {
    soon("a refusal", open_url(url).get("shop")).await.unwrap_err()
}

/// One that asks for a user: `root`, who may everything, or `ann`, who may what begins so.
fn with_users(hers: &str) -> Server {
    let server = Server::start();
    let call = |path: &str, body: Value| server.call(path, &body);
    let key = server::encoded(hers);
    let end = server::encoded(&format!("{}0", hers.trim_end_matches('/')));
    let permission = json!({ "permType": "READWRITE", "key": key, "range_end": end });
    call("/v3/auth/role/add", json!({ "name": "root" }));
    call("/v3/auth/role/add", json!({ "name": "micro" }));
    call("/v3/auth/role/grant", json!({ "name": "micro", "perm": permission }));
    for (user, role) in [("root", "root"), ("ann", "micro")] {
        call("/v3/auth/user/add", json!({ "name": user, "password": "s3cret" }));
        call("/v3/auth/user/grant", json!({ "user": user, "role": role }));
    }
    call("/v3/auth/enable", json!({}));
    server
}

/// A user with a password registers, watches and leaves; a wrong password, none, and a prefix that is
/// not the user's are denied, and no error tells a password.
#[tokio::test]
async fn users() {
    if !server::is_there() {
        return;
    }
    let server = with_users("/micro/");
    let address = server.address();
    let registry = open_url(&format!("etcd://ann:s3cret@{address}"));
    let mut watch = registry.watch(service()).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Reset { .. }));
    registry.register(&node("a", 1), TTL).await.unwrap();
    assert_eq!(next(&mut watch).await, Update::Put(node("a", 1).into()));
    registry.register(&node("a", 1), TTL).await.unwrap();
    registry.deregister(&node("a", 1)).await.unwrap();
    for (user, prefix, words) in [
        ("ann:wr0ng@", "", "refuses the user or the password"),
        ("nobody:s3cret@", "", "refuses the user or the password"),
        ("", "", "asks for a user"),
        ("ann:s3cret@", "/other", "denies this to the user"),
    ] {
        let error = refusal(&format!("etcd://{user}{address}{prefix}")).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        let shown = format!("{error:?}");
        assert!(!shown.contains("wr0ng") && !shown.contains("s3cret"), "{shown}");
    }
}

/// A watch that is denied takes no other with it.
#[tokio::test]
async fn a_watch_that_is_denied() {
    if !server::is_there() {
        return;
    }
    let server = with_users("/micro/n/hers/");
    let mut config = EtcdConfig::new([server.address()]);
    let (name, password) = ("ann".to_owned(), "s3cret".to_owned());
    config.user = Some(EtcdUser { name, password });
    let etcd = Etcd::new(&config).unwrap();
    let (hers, other) = (Keys::Below("n/hers/".into()), Keys::Below("n/other/".into()));
    let before = etcd.follow(&hers, 0).await.unwrap();
    let denied = etcd.follow(&other, 0).await.err().expect("it is denied");
    assert_eq!(denied.kind(), ErrorKind::Denied, "{denied:?}");
    let after = etcd.follow(&hers, 0).await.unwrap();
    let put = Put { key: "n/hers/1", value: b"a", lease: LeaseFor::New(TTL), expected: None };
    etcd.put(put).await.unwrap();
    for mut changes in [before, after] {
        assert_eq!(soon("a change", changes.next()).await.unwrap().unwrap().len(), 1);
    }
}

/// A token that etcd has forgotten, as when the password is set anew, is asked for again; by watches
/// on a stream of the old token too.
#[tokio::test]
async fn forgotten_tokens() {
    if !server::is_there() {
        return;
    }
    let server = with_users("/micro/");
    let registry = open_url(&format!("etcd://ann:s3cret@{}", server.address()));
    registry.register(&node("a", 1), TTL).await.unwrap();
    let mut before = registry.watch(service()).await.unwrap();
    assert!(matches!(next(&mut before).await, Update::Reset { .. }));
    let root = json!({ "name": "root", "password": "s3cret" });
    let root = server.call("/v3/auth/authenticate", &root);
    let again = json!({ "name": "ann", "password": "s3cret" });
    server.call_with("/v3/auth/user/changepw", &again, root["token"].as_str().unwrap());
    registry.register(&node("a", 2), TTL).await.unwrap();
    assert_eq!(next(&mut before).await, Update::Put(node("a", 2).into()));
    let (mut after, mut view) = (registry.watch(Scope::All).await.unwrap(), View::new());
    until(&mut after, &mut view, |view| view.len() == 1).await;
    let followed = async {
        // Until then resets tell of it.
        for weight in 3.. {
            registry.register(&node("a", weight), TTL).await.unwrap();
            let is_told = |view: &View| view.iter().all(|node| node.node.weight == weight);
            let updates = until(&mut after, &mut view, is_told).await;
            if matches!(updates[..], [.., Update::Put(_)]) {
                return;
            }
        }
    };
    soon("a change that is followed", followed).await;
}

/// A user that is configured before etcd asks for one does no harm.
#[tokio::test]
async fn a_user_nobody_asks_for() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let registry = open_url(&format!("etcd://ann:s3cret@{}", server.address()));
    registry.register(&node("a", 1), TTL).await.unwrap();
}

/// With the right CA and certificate calls and watches work over TLS; without, the error says what is
/// wrong, at once.
#[tokio::test]
async fn certificates() {
    if !server::is_there() {
        return;
    }
    let files = Files::new();
    let arguments = ["--cert-file", "server.pem", "--key-file", "server.key", "--client-cert-auth"];
    let arguments = arguments.map(|argument| files.named(argument));
    let trusted = ["--trusted-ca-file".to_owned(), files.path("ca.pem")];
    let server = Server::with_tls(&[&arguments[..], &trusted[..]].concat());
    let (address, plain) = (server.address(), Server::start());
    let [ca, other, cert, key] =
        ["ca.pem", "other.pem", "client.pem", "client.key"].map(|name| files.path(name));

    let registry = open_url(&format!("etcd://{address}?ca={ca}&cert={cert}&key={key}"));
    let mut watch = registry.watch(service()).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Reset { .. }));
    registry.register(&node("a", 1), TTL).await.unwrap();
    assert_eq!(next(&mut watch).await, Update::Put(node("a", 1).into()));

    for (url, words) in [
        (format!("etcd://{address}?ca={other}&cert={cert}&key={key}"), "not signed by the CA"),
        (format!("etcd://{address}?tls=true&cert={cert}&key={key}"), "not signed by the CA"),
        (format!("etcd://{address}?ca={ca}"), "may ask for a client certificate"),
        (
            format!("etcd://{address}?ca={ca}&cert={cert}&key={key}&server-name=etcd.example"),
            "not valid for name",
        ),
        (format!("etcd://{address}"), "may expect TLS"),
        (format!("etcd://{}?ca={ca}", plain.address()), "does not speak TLS"),
    ] {
        let error = refusal(&url).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

/// While no server is there calls fail at once, naming all of them; a watch waits for the first that
/// comes.
#[tokio::test]
async fn nobody_is_there_at_the_start() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    server.kill();
    let other = format!("127.0.0.1:{}", free_port());
    let registry = open(&[other.clone(), server.address()]);
    let error = registry.register(&node("a", 1), TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for address in [other, server.address()] {
        assert!(error.to_string().contains(&address), "{error}");
    }
    assert!(error.to_string().contains("refused"), "{error}");
    let mut watch = registry.watch(service()).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Stale { .. }));
    server.restart();
    assert!(matches!(next(&mut watch).await, Update::Reset { .. }));
    registry.register(&node("a", 1), TTL).await.unwrap();
}

/// Certificates of two authorities, as files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let (ca, issuer) = authority("ours");
        files.write("ca.pem", &ca.pem());
        files.write("other.pem", &authority("other").0.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
            let signed = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
            files.write(&format!("{name}.pem"), &signed.pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The path of what is a file, and what is none as it is.
    fn named(&self, text: &str) -> String {
        if Path::new(text).extension().is_some() { self.path(text) } else { text.to_owned() }
    }
}

fn authority(name: &str) -> (Certificate, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    (certificate, Issuer::new(params, key))
}
