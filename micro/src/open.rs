//! From a registry's URL to the registry.

use std::sync::Arc;

use micro_registry::{MemoryRegistry, Registry, RegistryUrl, StaticRegistry};

use crate::settings::{Resolved, Settings};
use crate::{Error, Result};

/// Which registry a service or client uses.
#[derive(Clone, Debug)]
pub(crate) struct OpenRegistry {
    pub(crate) registry: Arc<dyn Registry>,
    /// Whether it reaches no further than this host.
    pub(crate) is_one_host: bool,
}

impl OpenRegistry {
    /// A registry the program made itself.
    pub(crate) fn given(registry: Arc<dyn Registry>) -> Self {
        let is_one_host = matches!(registry.name(), "memory" | "local");
        Self { registry, is_one_host }
    }
}

/// The registry the settings name, else the one given in code, else `local:`.
pub(crate) async fn registry(
    settings: &Settings,
    code: Option<Arc<dyn Registry>>,
) -> Result<OpenRegistry> {
    let url = settings.resolve("registry", None, |text| Ok(text.to_owned()))?;
    match (url, code) {
        (Some(url), _) => by_url(&url, settings).await,
        (None, Some(registry)) => Ok(OpenRegistry::given(registry)),
        (None, None) => by_url(&Resolved::by_default(DEFAULT_URL.to_owned()), settings).await,
    }
}

const DEFAULT_URL: &str = "local:";

#[cfg_attr(not(feature = "local"), expect(unused_variables, reason = "only backends read them"))]
async fn by_url(url: &Resolved<String>, settings: &Settings) -> Result<OpenRegistry> {
    let in_context = |error: micro_registry::Error| {
        Error::invalid(format!("registry from {}: {error}", url.origin))
    };
    let parsed: RegistryUrl = url.value.parse().map_err(in_context)?;
    let registry: Arc<dyn Registry> = match parsed.scheme() {
        #[cfg(feature = "local")]
        "local" => Arc::new(local(parsed, settings).await.map_err(in_context)?),
        "memory" => Arc::new(MemoryRegistry::from_url(parsed).map_err(in_context)?),
        "static" => Arc::new(StaticRegistry::from_url(parsed).map_err(in_context)?),
        scheme => return Err(unknown_scheme(scheme, &url.origin)),
    };
    Ok(OpenRegistry::given(registry))
}

/// Ends the start, rather than have it tried for ever, when its directory can never work.
#[cfg(feature = "local")]
async fn local(
    mut url: RegistryUrl,
    settings: &Settings,
) -> std::result::Result<micro_registry_local::LocalRegistry, micro_registry::Error> {
    use micro_registry_local::{LocalRegistry, default_directory};
    if let Some(namespace) = settings.text("namespace") {
        url.set_default("namespace", namespace);
    }
    let directory = default_directory(settings.runtime_directory(), &std::env::temp_dir());
    let registry = LocalRegistry::from_url(url, &directory)?;
    registry.check().await?;
    Ok(registry)
}

/// Every scheme this version can compile in, with the feature that does.
const SCHEMES: [(&str, Option<&str>, bool); 3] = [
    ("memory", None, true),
    ("static", None, true),
    ("local", Some("local"), cfg!(feature = "local")),
];

fn unknown_scheme(scheme: &str, origin: &crate::Origin) -> Error {
    let compiled: Vec<_> = SCHEMES.iter().filter(|s| s.2).map(|s| format!("{}:", s.0)).collect();
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

    async fn open(url: &str) -> Result<OpenRegistry> {
        registry(&Settings::none().flag("registry", url).unwrap(), None).await
    }

    /// A URL makes the registry it names, and beats one given in code.
    #[tokio::test]
    async fn opens_what_the_url_names() {
        let given: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
        assert_eq!(
            registry(&Settings::none(), Some(given.clone())).await.unwrap().registry.name(),
            "memory"
        );
        let settings = Settings::none().flag("registry", "static:a=10.0.0.1:1").unwrap();
        assert_eq!(registry(&settings, Some(given)).await.unwrap().registry.name(), "static");
        assert!(open("memory:").await.unwrap().is_one_host);
    }

    /// What cannot be opened says why, from where, and what there is.
    #[tokio::test]
    async fn refuses_with_advice() {
        for (url, expected) in [
            ("etcd", "registry from flag --registry"),
            ("nosuch:", "`nosuch:` from flag --registry is unknown; compiled in are memory:"),
            ("memory:?x=1", "query key `x`"),
            ("static:greeter", "expected name=address"),
            ("memory:x", "`memory:x` is invalid: expected memory: alone"),
            #[cfg(feature = "local")]
            ("local:/dev/null/x", "flag --registry: local registry: cannot write into /dev/null/x"),
        ] {
            let error = open(url).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }
}
