//! What a call carries.

use std::{fmt, str::FromStr};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::contender::{
    Caller,
    wide::{WIDE_BYTES, Wide},
};

/// A kind of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Payload {
    /// So many bytes, which are a text.
    Bytes(usize),
    /// A struct of 200 fields, or about as many bytes where there are no types.
    Wide,
}

impl FromStr for Payload {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "wide" => Ok(Self::Wide),
            number => number.parse().map(Self::Bytes).context("neither a number nor `wide`"),
        }
    }
}

impl TryFrom<String> for Payload {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Payload> for String {
    fn from(payload: Payload) -> Self {
        payload.to_string()
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.pad(&bytes.to_string()),
            Self::Wide => f.pad("wide"),
        }
    }
}

/// A payload made.
#[derive(Debug)]
pub enum Made {
    /// For [`Caller::call`].
    Bytes(Vec<u8>),
    /// For [`Caller::call_wide`].
    Wide(Box<Wide>),
}

impl Made {
    /// What stands for this kind of payload in calls of `C`.
    #[must_use]
    pub fn for_caller<C: Caller>(payload: Payload) -> Self {
        match payload {
            Payload::Bytes(length) => Self::Bytes(bytes(length)),
            Payload::Wide if C::TYPED => Self::Wide(Box::new(Wide::example())),
            Payload::Wide => Self::Bytes(bytes(WIDE_BYTES)),
        }
    }

    /// Makes one call.
    ///
    /// # Errors
    ///
    /// When it fails, or the answer is not the payload.
    pub async fn call(&self, caller: &impl Caller) -> Result<()> {
        let is_echoed = match self {
            Self::Bytes(bytes) => caller.call(bytes).await?.as_ref() == bytes,
            Self::Wide(wide) => caller.call_wide(wide).await? == **wide,
        };
        ensure!(is_echoed, "the answer is not the payload");
        Ok(())
    }
}

/// A text of this length.
#[must_use]
pub fn bytes(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A payload is read as it is written.
    #[test]
    fn it_reads_what_it_writes() {
        for payload in [Payload::Bytes(16_384), Payload::Wide] {
            assert_eq!(payload.to_string().parse::<Payload>().expect("it is one"), payload);
        }
        assert!("many".parse::<Payload>().is_err());
    }
}
