//! The token that stands for user and password.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use tonic::metadata::{Ascii, MetadataValue};

use crate::EtcdUser;

/// A user, and the token that etcd gave for the password, once it is asked for.
///
/// etcd checks a password slowly, on purpose: however many requests wait for a token, one asks for it.
pub(crate) struct Login {
    pub(crate) user: EtcdUser,
    current: Mutex<Slot>,
}

/// Where a token is, or will be; another one after each that was forgotten.
pub(crate) type Slot = Arc<OnceCell<Token>>;

/// `None` where authentication is off, in spite of the user that is configured.
pub(crate) type Token = Option<MetadataValue<Ascii>>;

impl Login {
    pub(crate) fn new(user: EtcdUser) -> Self {
        Self { user, current: Mutex::default() }
    }

    /// Where to find the token, or to put it.
    pub(crate) fn slot(&self) -> Slot {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token that was in there is no longer of use.
    pub(crate) fn forget(&self, slot: &Slot) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, slot) {
            *current = Slot::default();
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who comes late with the news that a token is of no use does not throw its successor away.
    #[test]
    fn forgets_once() {
        let user = EtcdUser { name: "ann".into(), password: "hunter2".into() };
        let login = Login::new(user);
        let old = login.slot();
        login.forget(&old);
        let new = login.slot();
        login.forget(&old);
        assert!(!Arc::ptr_eq(&old, &new) && Arc::ptr_eq(&new, &login.slot()));
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
