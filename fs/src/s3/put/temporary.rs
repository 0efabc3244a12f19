//! Files on their way to a name.

use futures_util::FutureExt;
use kiseki_core::{
    Error,
    engine::{Caller, RenameFlags, SetAttr, Volume},
    ids::Ino,
};

use crate::s3::Gateway;

const FILE_MODE: u32 = 0o666;

/// A file without a name that others see. It goes when this is dropped, unless
/// it got one.
pub(in crate::s3) struct Temporary {
    volume: Volume,
    directory: Ino,
    who: Caller,
    ino: Ino,
    name: String,
    named: bool,
}

impl Temporary {
    pub(super) async fn make(gateway: &Gateway, who: Caller) -> Result<Temporary, Error> {
        let name = random_name();
        let directory = gateway.temporary;
        let made = gateway
            .volume
            .create(&who, directory, name.as_bytes(), FILE_MODE)
            .await?;
        Ok(Temporary {
            volume: gateway.volume.clone(),
            directory,
            who,
            ino: made.ino,
            name,
            named: false,
        })
    }

    pub(in crate::s3) fn ino(&self) -> Ino {
        self.ino
    }

    pub(in crate::s3) fn who(&self) -> &Caller {
        &self.who
    }

    /// Gives it the owner and mode of what it is to replace.
    pub(super) async fn like(&self, change: SetAttr) -> Result<(), Error> {
        self.volume.setattr(&self.who, self.ino, change).await?;
        Ok(())
    }

    /// Shows it under a name.
    pub(in crate::s3) async fn name(
        &mut self,
        parent: Ino,
        name: &str,
        flags: RenameFlags,
    ) -> Result<(), Error> {
        self.volume
            .rename(
                &self.who,
                self.directory,
                self.name.as_bytes(),
                parent,
                name.as_bytes(),
                flags,
            )
            .await?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Both answer at once, from memory; what did not is swept away when
        // the server starts again.
        let _ = self.volume.release(self.ino).now_or_never();
        if !self.named {
            let gone = self
                .volume
                .unlink(&self.who, self.directory, self.name.as_bytes())
                .now_or_never();
            if !matches!(gone, Some(Ok(()))) {
                tracing::debug!(name = self.name, "an unfinished object stays for now");
            }
        }
    }
}

impl Gateway {
    /// Removes what a crash left unfinished.
    pub(in crate::s3) async fn sweep(&self) -> Result<(), Error> {
        let who = self.own();
        loop {
            let left = self.volume.readdir(self.temporary, 0, 256).await?;
            if left.is_empty() {
                return Ok(());
            }
            for entry in left {
                self.volume
                    .unlink(&who, self.temporary, &entry.name)
                    .await?;
            }
        }
    }
}

/// A name that nothing else has.
pub(in crate::s3) fn random_name() -> String {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // As everywhere: without randomness there are no keys either.
        panic!("the system gives no random bytes: {error}");
    }
    hex::encode(bytes)
}
