//! Errors of methods: their codes, and what callers with other types see.

use micro::{CallError, Code, RpcError};

use super::*;

/// An error whose variants are of every shape.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
#[rpc(code = unavailable)]
enum Shaped {
    /// Takes the type's code.
    #[error("unit")]
    Unit,
    /// A tuple.
    #[error("tuple {0} {1}")]
    #[rpc(code = out_of_range)]
    Tuple(u8, String),
    /// Fields.
    #[error("fields {type}")]
    #[rpc(code = "data_loss")]
    Fields {
        /// A keyword.
        r#type: u8,
    },
    /// Another error.
    #[error(transparent)]
    #[rpc(code = not_found)]
    Other(#[from] Whole),
}

/// A struct with a code.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
#[error("whole {0}")]
#[rpc(code = already_exists)]
struct Whole(u8);

/// An error without code, and without `thiserror`.
#[derive(Debug, micro::RpcError, Serialize, Deserialize)]
struct Bare {
    /// What it says.
    text: String,
}

impl std::fmt::Display for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Bare {}

/// An error nothing returns.
#[allow(dead_code)]
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
enum Never {}

/// The variant's code counts, else the type's, else `unknown`.
#[test]
fn codes() {
    assert_eq!(Shaped::Unit.code(), Code::Unavailable);
    assert_eq!(Shaped::Tuple(1, String::new()).code(), Code::OutOfRange);
    assert_eq!(Shaped::Fields { r#type: 1 }.code(), Code::DataLoss);
    assert_eq!(Shaped::Other(Whole(1)).code(), Code::NotFound);
    assert_eq!(Whole(1).code(), Code::AlreadyExists);
    assert_eq!(Bare { text: String::new() }.code(), Code::Unknown);
}

/// What a server says today.
mod new {
    use super::*;

    #[micro::service(mock)]
    pub(super) trait Bank {
        async fn pay(&self, amount: u8) -> Result<(), PayError>;
    }

    #[derive(Debug, PartialEq, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
    pub(super) enum PayError {
        #[error("too much")]
        #[rpc(code = out_of_range)]
        TooMuch { limit: u8, currency: String },
        #[error("account {0} is frozen")]
        #[rpc(code = permission_denied)]
        Frozen(u64),
    }
}

/// What a client knew when it was built.
mod old {
    use super::*;

    #[micro::service]
    pub(super) trait Bank {
        async fn pay(&self, amount: u8) -> Result<(), PayError>;
    }

    #[derive(Debug, PartialEq, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
    pub(super) enum PayError {
        #[error("too much")]
        TooMuch { limit: u8 },
    }
}

/// A client sees the variants it knows, be they of fewer fields; of others the code and the message.
#[tokio::test(start_paused = true)]
async fn unknown_variants() {
    let town = Town::default();
    let bank = new::MockBank::new().on_pay(|amount| match amount {
        0 => Ok(()),
        1 => Err(new::PayError::TooMuch { limit: 7, currency: "EUR".into() }),
        _ => Err(new::PayError::Frozen(12)),
    });
    let _service = town.serve(new::BankServer::new(bank)).await;
    let bank = old::BankClient::named(&town.client().await, "shop");
    bank.pay(0).await.unwrap();
    let Err(CallError::App(known)) = bank.pay(1).await else { panic!() };
    assert_eq!(known, old::PayError::TooMuch { limit: 7 });
    let Err(CallError::Rpc(unknown)) = bank.pay(2).await else { panic!() };
    assert_eq!(unknown.code(), Code::PermissionDenied);
    assert!(unknown.to_string().contains("account 12 is frozen"), "{unknown}");
    let client = new::BankClient::named(&town.client().await, "shop");
    assert!(matches!(client.pay(2).await, Err(CallError::App(new::PayError::Frozen(12)))));
}
