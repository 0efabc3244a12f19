//! Opening an image, and comparing it with what was promised.

use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use kiseki_core::{
    engine::Volume,
    host::{Disk, MemoryDisk, ScratchDisk},
    ids::Ino,
};

use super::{
    Dice,
    model::Model,
    volume::{self, CALLER},
};
use crate::Result;

/// Disk operations of most recoveries.
const RECOVERY: u64 = 40;

/// What the disk holds when power is lost: the worst case without chance, or
/// what chance decides.
pub fn lose_power(disk: &MemoryDisk, dice: &mut Dice) -> MemoryDisk {
    match dice.below(4) {
        0 => disk.crash_losing_all(),
        _ => disk.crash(dice.bits()),
    }
}

/// Fails unless an image of the position `at` opens, shows what it may show,
/// goes on working and holds together.
pub async fn check(image: &MemoryDisk, at: usize, model: &Model, dice: &mut Dice) -> Result {
    let again = match dice.below(3) {
        0 => Some(crash_recovery(image, dice)),
        _ => None,
    };
    let image = again.as_ref().unwrap_or(image);
    let disk: Arc<dyn Disk> = Arc::new(image.clone());
    if dice.below(4) == 0 {
        let scratch: Arc<dyn Disk> = Arc::new(ScratchDisk::over(disk.clone()));
        checked(&scratch, true).context("before it is opened")?;
    }
    let volume = volume::open(disk.clone()).context("it does not open")?;
    let found = volume::look(&volume).await.context("it cannot be read")?;
    model.judge(at, &found).map_err(anyhow::Error::msg)?;
    go_on(&volume, &model.stored_last(at, 4)).await?;
    volume.close().await.context("it does not close")?;
    drop(volume);
    checked(&disk, false).context("after it was closed")
}

fn checked(disk: &Arc<dyn Disk>, may_be_torn: bool) -> Result {
    let problems = volume::check(disk, may_be_torn).context("it cannot be checked")?;
    ensure!(problems.is_empty(), "{problems:?}");
    Ok(())
}

/// An image of an image: the power goes off again while it is opened.
fn crash_recovery(image: &MemoryDisk, dice: &mut Dice) -> MemoryDisk {
    image.power_off_after(dice.below(RECOVERY));
    // What it says does not matter; what it leaves is looked at.
    drop(volume::open(Arc::new(image.clone())));
    lose_power(image, dice)
}

/// Stores again what was stored before the crash, perhaps not to the end: what
/// is left of that must not be taken for it.
async fn go_on(volume: &Volume, contents: &[Arc<[u8]>]) -> Result {
    let name = |number: usize| format!("afterwards{number}").into_bytes();
    let mut inos = Vec::new();
    for (number, contents) in contents.iter().enumerate() {
        let name = name(number);
        let made = volume.create(&CALLER, Ino::ROOT, &name, 0o644).await;
        let ino = made.context("nothing can be made")?.ino;
        let data = Bytes::copy_from_slice(contents);
        volume.write(&CALLER, ino, 0, data).await?;
        inos.push(ino);
    }
    volume.sync().await.context("nothing can be synced")?;
    volume.wipe_caches();
    for (number, (ino, contents)) in inos.into_iter().zip(contents).enumerate() {
        let found = volume::read(volume, ino).await?;
        ensure!(
            found[..] == contents[..],
            "what is written now reads otherwise"
        );
        volume.release(ino).await?;
        volume.unlink(&CALLER, Ino::ROOT, &name(number)).await?;
    }
    Ok(())
}
