//! What generated mocks are made of.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use micro_rpc::Codec;

use crate::method::{Method, Named};

/// A method of a mock: how it answers, and what it was called with. Clones share both.
pub struct Mocked<A, O>(Arc<Inner<A, O>>);

struct Inner<A, O> {
    mock: &'static str,
    method: &'static str,
    answer: Mutex<Option<Answer<A, O>>>,
    /// Encoded, since arguments need not be `Clone` but always travel.
    calls: Mutex<Vec<Bytes>>,
}

type Answer<A, O> = Arc<dyn Fn(A) -> O + Send + Sync>;

impl<A, O> Mocked<A, O> {
    /// A method that has no answer yet.
    pub fn new(mock: &'static str, method: &'static str) -> Self {
        let (answer, calls) = (Mutex::new(None), Mutex::new(Vec::new()));
        Self(Arc::new(Inner { mock, method, answer, calls }))
    }

    /// Sets the answer.
    pub fn set(&self, answer: impl Fn(A) -> O + Send + Sync + 'static) {
        *lock(&self.0.answer) = Some(Arc::new(answer));
    }

    /// Notes the call and answers it.
    ///
    /// # Panics
    ///
    /// When there is no answer, or the arguments do not encode.
    pub fn call<M: Method<Arguments = A>>(&self, arguments: A) -> O {
        let Inner { mock, method, .. } = *self.0;
        let arguments = Named::<M>(arguments);
        let encoded = Codec::MessagePack.encode(&arguments);
        lock(&self.0.calls).push(encoded.unwrap_or_else(|error| {
            panic!("{mock}::{method} was called with arguments that do not encode: {error}")
        }));
        // Called without the lock, so that an answer may call the mock, or panic.
        let answer = lock(&self.0.answer).clone();
        let answer = answer.unwrap_or_else(|| {
            panic!("{mock}::{method} was called but has no answer: write `.on_{method}(…)`")
        });
        answer(arguments.0)
    }

    /// The arguments of every call until now, the oldest first.
    ///
    /// # Panics
    ///
    /// When what a type encodes to does not decode.
    pub fn calls<M: Method<Arguments = A>>(&self) -> Vec<A> {
        let Inner { mock, method, .. } = *self.0;
        let decode = |encoded: &Bytes| match Codec::MessagePack.decode::<Named<M>>(encoded) {
            Ok(arguments) => arguments.0,
            Err(error) => {
                panic!("arguments of {mock}::{method} do not decode as they were encoded: {error}")
            }
        };
        let calls = lock(&self.0.calls).clone();
        calls.iter().map(decode).collect()
    }
}

impl<A, O> Mocked<(A,), O> {
    /// The only argument of every call until now, the oldest first.
    pub fn only_arguments<M: Method<Arguments = (A,)>>(&self) -> Vec<A> {
        self.calls::<M>().into_iter().map(|(argument,)| argument).collect()
    }
}

impl<A, O> Clone for Mocked<A, O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A, O> fmt::Debug for Mocked<A, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mocked")
            .field("has_answer", &lock(&self.0.answer).is_some())
            .field("calls", &lock(&self.0.calls).len())
            .finish()
    }
}

/// No code of users runs under these locks, so nothing panics and leaves a state half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
