//! Calls into redb whose panics stay there.

use std::{
    cell::Cell,
    io,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use ::redb::Database;

use crate::{Error, Result};

thread_local! {
    /// Whether this thread runs redb code whose panics are expected.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs redb code; its panics are answers and not for stderr.
fn catch_unwind<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            if INSIDE.get() {
                tracing::debug!(%what, "redb panicked over a damaged file");
            } else {
                usual(what);
            }
        }));
    });
    let before = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(before);
    result
}

/// A database that may panic when it closes, once it has panicked before.
pub(super) struct Handle(Option<Database>);

impl Handle {
    pub(super) fn new(database: Database) -> Handle {
        Handle(Some(database))
    }

    pub(super) fn get(&self) -> Result<&Database, ::redb::Error> {
        self.0.as_ref().ok_or(::redb::Error::DatabaseClosed)
    }

    pub(super) fn get_mut(&mut self) -> Result<&mut Database, ::redb::Error> {
        self.0.as_mut().ok_or(::redb::Error::DatabaseClosed)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let database = self.0.take();
        // It poisoned its locks then and has written nothing since; the next
        // open says what is wrong with the file.
        let _ = catch_unwind(|| drop(database));
    }
}

/// Runs redb code. It panics on some kinds of damage to its file (asserts and
/// unwraps behind the checked header); that is damage to us as well, not the
/// end of the process.
pub(super) fn guarded<T>(
    path: &str,
    action: &str,
    work: impl FnOnce() -> Result<T, ::redb::Error>,
) -> Result<T> {
    match catch_unwind(work) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(explain(path, action, error)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("an invariant of the file does not hold");
            Err(Error::damaged(path, format!("cannot {action} it: {text}")))
        }
    }
}

fn explain(path: &str, action: &str, error: ::redb::Error) -> Error {
    use ::redb::Error as Redb;
    let what = || format!("{action} the projection {path}");
    match error {
        // Both come from bytes that are not what redb wrote: a wrong magic
        // number, a file that is cut.
        Redb::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Error::damaged(path, error.to_string())
        }
        Redb::Io(error) => Error::io(what(), error),
        Redb::PreviousIo | Redb::DatabaseClosed | Redb::LockPoisoned(_) => {
            Error::io(what(), io::Error::other(error.to_string()))
        }
        error => Error::damaged(path, error.to_string()),
    }
}
