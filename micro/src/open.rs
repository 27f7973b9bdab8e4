//! From a registry's URL to the registry.

use std::sync::Arc;

use micro_registry::{MemoryRegistry, Registry, RegistryUrl, StaticRegistry, validate};

use crate::settings::{Lasts, Resolved, Settings};
use crate::{Error, Origin, Result};

/// The registry the settings name, else the one given in code, else the default.
pub(crate) async fn registry(
    settings: &Settings,
    code: Option<Arc<dyn Registry>>,
) -> Result<Arc<dyn Registry>> {
    let namespace = settings.checked("namespace", None, validate::namespace)?;
    let url = settings.resolve_or_default("registry", None, |text| Ok(text.to_owned()))?;
    match code {
        Some(registry) if url.origin == Origin::Default => Ok(registry),
        _ => by_url(&url, namespace, settings).await,
    }
}

async fn by_url(
    url: &Resolved<String>,
    namespace: Option<Resolved<String>>,
    settings: &Settings,
) -> Result<Arc<dyn Registry>> {
    let in_context = |error: micro_registry::Error| {
        Error::invalid(format!("registry from {}: {error}", url.origin))
    };
    if let Some(second) = second(&url.value) {
        let message = format!("registry from {} names a second one, `{second}`", url.origin);
        return Err(Error::invalid(format!("{message}: expected one URL")));
    }
    let parsed: RegistryUrl = url.value.parse().map_err(in_context)?;
    if parsed.scheme() == "static" {
        let registry = StaticRegistry::from_url(parsed).map_err(in_context)?;
        let expected = "expected none, as the list of a `static:` registry has no parts";
        let misled = namespace.map(|namespace| namespace.invalid("namespace", expected));
        return misled.map_or(Ok(Arc::new(registry)), Err);
    }
    let namespace = namespace.map(|namespace| namespace.value);
    if let Some(open) = settings.opened().find(&url.value, namespace.as_deref()) {
        return Ok(open);
    }
    let (new, lasts): (Arc<dyn Registry>, _) = match parsed.scheme() {
        #[cfg(feature = "local")]
        "local" => {
            let local = local(parsed, namespace.clone(), settings).await.map_err(in_context)?;
            (Arc::new(local), Lasts::ForItsUsers)
        }
        #[cfg(feature = "etcd")]
        "etcd" => {
            let etcd = etcd(parsed, namespace.clone()).map_err(in_context)?;
            (Arc::new(etcd), Lasts::ForItsUsers)
        }
        #[cfg(feature = "mdns")]
        "mdns" => {
            let mdns = mdns(parsed, namespace.clone()).map_err(in_context)?;
            (Arc::new(mdns), Lasts::ForItsUsers)
        }
        "memory" => {
            let memory = MemoryRegistry::from_url(parsed).map_err(in_context)?;
            (Arc::new(memory), Lasts::ForTheSettings)
        }
        scheme => return Err(unknown_scheme(scheme, &url.origin)),
    };
    Ok(settings.opened().share(&url.value, namespace.as_deref(), new, lasts))
}

/// The second of several URLs. A path may contain spaces, so what counts is a scheme that is known.
fn second(text: &str) -> Option<RegistryUrl> {
    let mut others = text.split_whitespace().skip(1).filter_map(|part| part.parse().ok());
    others.find(|url: &RegistryUrl| SCHEMES.iter().any(|s| s.0 == url.scheme()))
}

/// Ends the start, rather than have it tried for ever, when its directory can never work.
#[cfg(feature = "local")]
async fn local(
    mut url: RegistryUrl,
    namespace: Option<String>,
    settings: &Settings,
) -> std::result::Result<micro_registry_local::LocalRegistry, micro_registry::Error> {
    use micro_registry_local::{LocalRegistry, default_directory};
    if let Some(namespace) = namespace {
        url.set_default("namespace", namespace);
    }
    let runtime = settings.runtime_directory().filter(|path| !path.as_os_str().is_empty());
    if let Some(relative) = runtime.filter(|path| path.is_relative() && url.path().is_empty()) {
        let directory = relative.display();
        tracing::warn!(%directory, "XDG_RUNTIME_DIR is not an absolute path, ignoring it");
    }
    let directory = default_directory(runtime, &std::env::temp_dir());
    let registry = LocalRegistry::from_url(url, &directory)?;
    registry.check().await?;
    Ok(registry)
}

/// Starts although no server can be reached: one may come, or come back.
#[cfg(feature = "etcd")]
fn etcd(
    mut url: RegistryUrl,
    namespace: Option<String>,
) -> std::result::Result<micro_registry_etcd::EtcdRegistry, micro_registry::Error> {
    if let Some(namespace) = namespace {
        url.set_default("namespace", namespace);
    }
    micro_registry_etcd::open(&micro_registry_etcd::EtcdConfig::from_url(url)?)
}

/// Starts although there is no network yet: that may come and go for as long as the program runs.
#[cfg(feature = "mdns")]
fn mdns(
    mut url: RegistryUrl,
    namespace: Option<String>,
) -> std::result::Result<micro_registry_mdns::MdnsRegistry, micro_registry::Error> {
    if let Some(namespace) = namespace {
        url.set_default("namespace", namespace);
    }
    micro_registry_mdns::MdnsRegistry::from_url(url)
}

/// Every scheme this version can compile in, with the feature that does.
const SCHEMES: [(&str, Option<&str>, bool); 5] = [
    ("memory", None, true),
    ("static", None, true),
    ("local", Some("local"), cfg!(feature = "local")),
    ("mdns", Some("mdns"), cfg!(feature = "mdns")),
    ("etcd", Some("etcd"), cfg!(feature = "etcd")),
];

/// The schemes of registries that this program can open, as its features say.
pub fn schemes() -> impl Iterator<Item = &'static str> {
    SCHEMES.iter().filter(|scheme| scheme.2).map(|scheme| scheme.0)
}

fn unknown_scheme(scheme: &str, origin: &Origin) -> Error {
    let compiled: Vec<_> = schemes().map(|scheme| format!("{scheme}:")).collect();
    let compiled = compiled.join(", ");
    let feature = SCHEMES.iter().find(|s| s.0 == scheme).and_then(|s| s.1);
    let advice = match feature {
        Some(feature) => format!("is not compiled in: add the feature `{feature}` of `micro`"),
        None => "is unknown".to_owned(),
    };
    Error::invalid(format!(
        "registry scheme `{scheme}:` from {origin} {advice}; compiled in are {compiled}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(url: &str) -> Result<Arc<dyn Registry>> {
        registry(&Settings::none().flag("registry", url).unwrap(), None).await
    }

    /// A URL makes the registry it names, and beats one given in code.
    #[tokio::test]
    async fn opens_what_the_url_names() {
        let given: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
        let chosen = registry(&Settings::none(), Some(given.clone())).await.unwrap();
        assert_eq!(chosen.name(), "memory");
        let settings = Settings::none().flag("registry", "static:a=10.0.0.1:1").unwrap();
        assert_eq!(registry(&settings, Some(given)).await.unwrap().name(), "static");
        assert!(open("memory:").await.unwrap().is_one_host());
        assert!(!open("static:a=10.0.0.1:1").await.unwrap().is_one_host());
    }

    /// What cannot be opened says why, from where, and what there is.
    #[tokio::test]
    async fn refuses_with_advice() {
        for (url, expected) in [
            ("etcd", "registry from flag --registry"),
            ("nosuch:", "`nosuch:` from flag --registry is unknown; compiled in are memory:"),
            ("memory:?x=1", "query key `x`"),
            ("memory: static:a=h:1?key=s3cret", "names a second one, `static:a=h:1?key=***`: exp"),
            ("static:greeter", "expected name=address"),
            ("memory:x", "`memory:x` is invalid: expected memory: alone"),
            #[cfg(not(feature = "etcd"))]
            ("etcd://h", "is not compiled in: add the feature `etcd` of `micro`"),
            #[cfg(feature = "local")]
            ("local:/dev/null/x", "flag --registry: local registry: cannot write into /dev/null/x"),
        ] {
            let error = open(url).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }

    /// The registry of a cluster takes its namespace from the URL before the settings, and opens while
    /// no server is there.
    #[cfg(feature = "etcd")]
    #[tokio::test]
    async fn etcd_by_url() {
        let opened = open("etcd://ann:hunter2@127.0.0.1:1/micro?namespace=shop").await.unwrap();
        assert_eq!((opened.name(), opened.is_one_host()), ("etcd", false));
        for (url, namespace) in [("etcd://h", "other"), ("etcd://h?namespace=shop", "shop")] {
            let settings = Settings::none().flag("registry", url).unwrap();
            let settings = settings.flag("namespace", "other").unwrap();
            let shown = format!("{:?}", registry(&settings, None).await.unwrap());
            assert!(shown.contains(&format!("namespace: {namespace:?}")), "{shown}");
        }
        let error = open("etcd://ann:hunter2@h/").await.unwrap_err().to_string();
        assert!(error.contains("ends in a slash") && !error.contains("hunter2"), "{error}");
    }

    /// The registry of the local network takes its namespace from the URL before the settings, and
    /// is of more than one host.
    #[cfg(feature = "mdns")]
    #[tokio::test]
    async fn mdns_by_url() {
        let opened = open("mdns:?namespace=shop&interface=lo").await.unwrap();
        assert_eq!((opened.name(), opened.is_one_host()), ("mdns", false));
        for (url, namespace) in [("mdns:", "other"), ("mdns:?namespace=shop", "shop")] {
            let settings = Settings::none().flag("registry", url).unwrap();
            let settings = settings.flag("namespace", "other").unwrap();
            let shown = format!("{:?}", registry(&settings, None).await.unwrap());
            assert!(shown.contains(&format!("namespace: {namespace:?}")), "{shown}");
        }
        let error = open("mdns:?ttl=3").await.unwrap_err().to_string();
        assert!(error.contains("expected namespace, interface, port"), "{error}");
    }

    /// What `memory:` opens is one for settings and their clones, in each of its namespaces, and
    /// another for other settings.
    #[tokio::test]
    async fn memory_is_shared_by_clones() {
        let settings = Settings::none().flag("registry", "memory:").unwrap();
        let named = |name: &str| settings.clone().flag("namespace", name).unwrap();
        let mut node = micro_registry::Node::new("a", "127.0.0.1:1");
        node.epoch = 1;
        let registration = micro_registry::Registration::new("shop", "latest", node);
        let opened = registry(&settings, None).await.unwrap();
        opened.register(&registration, std::time::Duration::from_secs(60)).await.unwrap();
        let other = Settings::none().flag("registry", "memory:").unwrap();
        for (settings, is_there) in [
            (settings.clone(), true),
            (named("default"), true),
            (named("other"), false),
            (other, false),
        ] {
            let opened = registry(&settings, None).await.unwrap();
            assert_eq!(opened.get("shop").await.is_ok(), is_there, "{settings:?}");
        }
    }

    /// Settings and their clones share one handle of each namespace, which closes with its last user
    /// and is opened anew for the next.
    #[cfg(feature = "local")]
    #[tokio::test]
    async fn handles_are_shared_by_clones() {
        let directory = tempfile::TempDir::new().unwrap();
        let url = format!("local:{}", directory.path().join("micro").display());
        let settings = Settings::none().flag("registry", url).unwrap();
        let first = registry(&settings, None).await.unwrap();
        let second = registry(&settings.clone(), None).await.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let elsewhere = settings.clone().flag("namespace", "elsewhere").unwrap();
        let other = registry(&elsewhere, None).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        let open = Arc::downgrade(&first);
        drop(first);
        assert!(open.upgrade().is_some());
        drop(second);
        assert!(open.upgrade().is_none(), "nobody uses it");
        registry(&settings, None).await.unwrap().list().await.unwrap();
    }

    /// Settings show no password of a registry they opened.
    #[cfg(feature = "etcd")]
    #[tokio::test]
    async fn open_handles_show_no_password() {
        let settings = Settings::none().flag("registry", "etcd://ann:hunter2@127.0.0.1:1").unwrap();
        let _open = registry(&settings, None).await.unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    /// A list has no namespaces, so one that is given was meant for another registry.
    #[tokio::test]
    async fn static_has_no_namespaces() {
        let settings = Settings::none().flag("registry", "static:a=10.0.0.1:1").unwrap();
        let settings = settings.flag("namespace", "shop").unwrap();
        let error = registry(&settings, None).await.unwrap_err().to_string();
        let expected = "namespace \"shop\" from flag --namespace is invalid: expected none";
        assert!(error.starts_with(expected), "{error}");
    }

    /// A namespace is named with its own origin, not with that of the registry.
    #[tokio::test]
    async fn refuses_a_bad_namespace() {
        let variable = [("MICRO_NAMESPACE".into(), "No".into())];
        let settings = Settings::from_parts(None, variable).unwrap();
        for settings in [settings.clone(), settings.flag("registry", "memory:").unwrap()] {
            let error = registry(&settings, None).await.unwrap_err().to_string();
            let expected =
                "namespace \"No\" from environment variable MICRO_NAMESPACE is invalid: expected 1";
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
