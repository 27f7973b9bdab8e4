//! The registry contract, by the suite all backends are judged by.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use micro_registry::Registry;
use micro_registry_local::LocalRegistry;
use micro_registry_testkit::{Backend, Faults, Profile, Unsupported, suite};
use tempfile::TempDir;

use crate::config;

/// The local registry keeps the whole contract.
#[tokio::test]
async fn keeps_the_contract() {
    let mut profile = Profile::default();
    profile.min_ttl = Duration::from_millis(500);
    suite(async || Local::new(), profile).await;
}

/// A directory of its own.
struct Local {
    directory: TempDir,
    /// Held while the store hangs.
    guard: Mutex<Option<File>>,
}

impl Local {
    fn new() -> Self {
        Self { directory: crate::directory(), guard: Mutex::default() }
    }

    fn namespace(&self) -> PathBuf {
        self.directory.path().join("micro/default")
    }

    fn away(&self) -> PathBuf {
        self.directory.path().join("away")
    }
}

#[async_trait]
impl Backend for Local {
    async fn open(&self, namespace: &str) -> Arc<dyn Registry> {
        let mut config = config(self.directory.path());
        config.namespace = namespace.to_owned();
        Arc::new(LocalRegistry::new(config).unwrap())
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }
}

#[async_trait]
impl Faults for Local {
    /// A file takes the place of the directory.
    async fn interrupt(&self) -> Result<(), Unsupported> {
        fs::create_dir_all(self.directory.path().join("micro")).unwrap();
        let _ = fs::rename(self.namespace(), self.away());
        // A watch may have made the directory again in between.
        while fs::write(self.namespace(), "in the way").is_err() {
            let _ = fs::remove_dir_all(self.namespace());
        }
        Ok(())
    }

    /// Somebody, who was stopped in the middle, is writing.
    async fn hang(&self) -> Result<(), Unsupported> {
        let guard = File::create(self.namespace().join(".guard")).unwrap();
        guard.lock().unwrap();
        *self.guard.lock().unwrap() = Some(guard);
        Ok(())
    }

    async fn restore(&self) -> Result<(), Unsupported> {
        drop(self.guard.lock().unwrap().take());
        let _ = fs::remove_file(self.namespace());
        if self.away().exists() {
            // As above.
            while fs::rename(self.away(), self.namespace()).is_err() {
                let _ = fs::remove_dir_all(self.namespace());
            }
        }
        Ok(())
    }

    async fn lose_leases(&self) -> Result<(), Unsupported> {
        for entry in fs::read_dir(self.namespace()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "lock") {
                fs::remove_file(path).unwrap();
            }
        }
        Ok(())
    }

    async fn corrupt(&self, service: &str, id: &str) -> Result<(), Unsupported> {
        fs::write(self.namespace().join(format!("{service}@{id}.json")), "{ half a rec").unwrap();
        Ok(())
    }
}
