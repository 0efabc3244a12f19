//! What a service answers: at once, or later.

use std::{future::Future, pin::Pin};

use crate::Result;

/// The answer of a service: there at once, or to be waited for. Local services
/// answer at once from memory; asking costs no allocation then.
pub enum Answer<T> {
    /// Known now.
    Ready(Result<T>),
    /// On its way.
    Pending(Pin<Box<dyn Future<Output = Result<T>> + Send>>),
}

impl<T> Answer<T> {
    /// The result, waited for where needed.
    ///
    /// # Errors
    /// What the service answered.
    pub async fn get(self) -> Result<T> {
        match self {
            Answer::Ready(result) => result,
            Answer::Pending(future) => future.await,
        }
    }
}

impl<T> Answer<T> {
    /// The result, blocking the thread where it is not there yet.
    ///
    /// # Errors
    /// What the service answered.
    pub fn wait(self) -> Result<T> {
        match self {
            Answer::Ready(result) => result,
            Answer::Pending(future) => pollster::block_on(future),
        }
    }
}

impl<T> From<Result<T>> for Answer<T> {
    fn from(result: Result<T>) -> Self {
        Answer::Ready(result)
    }
}
