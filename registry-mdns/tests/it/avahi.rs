//! Avahi, in both directions: it shows our nodes, and we find what it publishes.

use std::process::{Child, Command, Stdio};

use micro_registry::{Registry, RemoveReason, Scope, View};
use micro_registry_mdns::MdnsConfig;

use crate::namespace::{add_interface, run, sh};
use crate::{HOUR, eventually, registration, registry, until, until_gone};

/// Avahi shows our nodes, by the type and by the service; what it publishes is a node.
#[test]
fn both_directions() {
    let needs = ["avahi-daemon", "avahi-browse", "avahi-publish", "dbus-daemon"];
    run("avahi::finds_and_is_found", &needs);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "in namespaces of its own, from `both_directions`"]
async fn finds_and_is_found() {
    add_interface("wire", "10.77.0.1/24");
    let _daemons = start_avahi();
    let mut config = MdnsConfig::new();
    config.interfaces = vec!["wire".into()];
    let registry = registry(&config);

    let mut shop = registration("shop.main", "a", 1);
    shop.node.address = "10.77.0.1:7000".into();
    registry.register(&shop, HOUR).await.unwrap();
    for service_type in ["_micro._tcp", "_shop-main._sub._micro._tcp"] {
        let shows = async || {
            let shown = browse(service_type).unwrap_or_default();
            ["\"service=shop.main\"", ";10.77.0.1;7000;"].iter().all(|part| shown.contains(part))
        };
        eventually("avahi shows our node", shows).await;
    }

    let till = Scope::Service("till".into());
    let (mut watch, mut view) = (registry.watch(till).await.unwrap(), View::new());
    let publish = ["-s", "Till 1", "_micro._tcp", "7100", "service=till"];
    let published = Running::start(Command::new("avahi-publish").args(publish));
    until(&mut watch, &mut view, |view| view.len() == 1).await;
    let node = registry.get("till").await.unwrap()[0].nodes[0].clone();
    assert_eq!((&*node.id, &*node.address), ("Till-1", "10.77.0.1:7100"));
    drop(published);
    assert_eq!(until_gone(&mut watch, &mut view).await, RemoveReason::Deregistered);

    registry.deregister(&shop).await.unwrap();
    eventually("avahi shows no node", async || {
        browse("_micro._tcp").is_some_and(|shown| shown.is_empty())
    })
    .await;
}

/// What avahi finds within a moment; nothing when its answer does not end.
fn browse(service_type: &str) -> Option<String> {
    let browse = ["5", "avahi-browse", "-rptk", service_type];
    let found = Command::new("timeout").args(browse).output().unwrap();
    found.status.success().then(|| String::from_utf8(found.stdout).unwrap())
}

/// Avahi with a bus of its own, whose sockets are in our `/run`.
fn start_avahi() -> [Running; 2] {
    sh("mount -t tmpfs tmpfs /run
        mkdir -p /run/dbus /run/avahi-daemon
        printf '[server]\\nallow-interfaces=wire\\n' > /run/avahi.conf");
    let bus =
        Running::start(Command::new("dbus-daemon").args(["--system", "--nofork", "--nopidfile"]));
    sh("until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done");
    let options = ["--file=/run/avahi.conf", "--no-drop-root", "--no-chroot", "--no-rlimits"];
    let daemon = Running::start(Command::new("avahi-daemon").args(options));
    sh("until avahi-daemon --check; do sleep 0.05; done");
    [daemon, bus]
}

/// A program of ours; killed, by its id, when dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
