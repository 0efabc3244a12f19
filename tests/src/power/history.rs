//! A history: a volume works, the power goes off or its process is killed, it
//! is opened on what that left, and works on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use anyhow::Context;
use kiseki_core::host::{Disk, MemoryDisk};

use super::{
    Dice, Lie, Recorder, image,
    model::Model,
    recording::{Operation, Player},
    volume,
    workload::Work,
};
use crate::Result;

/// Times that a history begins on what a crash left.
const LIVES: u64 = 3;

/// Most steps of one of them.
const STEPS: u64 = 60;

/// From one opening of the volume to the end of its power.
struct Life {
    base: MemoryDisk,
    operations: Vec<Operation>,
    /// How many of them are of the life before, which ended in a kill.
    before: usize,
    model: Model,
}

/// See the module.
pub struct History {
    seed: u64,
    lives: Vec<Life>,
}

/// An image that is not what was promised.
#[derive(Debug)]
pub struct Failure {
    /// The history.
    pub seed: u64,
    /// Which of its images; `None` when it came to no image.
    pub image: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl History {
    /// Makes the history of a seed, on a disk that may lie.
    ///
    /// # Errors
    /// When the volume fails at work, on a disk without a fault.
    pub fn record(seed: u64, lie: Option<Lie>) -> Result<History, Failure> {
        let mut history = History {
            seed,
            lives: Vec::new(),
        };
        let recorded = guarded(async || {
            let mut dice = Dice::new(seed);
            let (mut base, mut recorded) = (volume::new_store()?, Vec::new());
            let mut model = Model::default();
            for _ in 0..LIVES {
                let life = live(base, recorded, model, lie, &mut dice).await?;
                model = life.model.clone();
                let at;
                if dice.below(2) == 0 {
                    at = life.kill(&mut dice);
                    (base, recorded) = (copy(&life.base), life.operations[..at].to_vec());
                } else {
                    at = life.power_off(&mut dice);
                    let disk = life.disk_at(at);
                    (base, recorded) = (image::lose_power(&disk, &mut dice), Vec::new());
                }
                model.crashed(at, recorded.len());
                history.lives.push(life);
            }
            Ok(())
        });
        match recorded {
            Ok(()) => Ok(history),
            Err(what) => Err(Failure {
                seed,
                image: None,
                what,
            }),
        }
    }

    /// How many images it has: one behind each operation of the disk, and one before the first.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.lives.iter().map(Life::images).sum()
    }

    /// Operations of the disk.
    #[must_use]
    pub fn operations(&self) -> u64 {
        let lives = self.lives.iter();
        lives
            .map(|life| (life.operations.len() - life.before) as u64)
            .sum()
    }

    /// A hash of everything that was done to the disk.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for operation in self.lives.iter().flat_map(|life| &life.operations) {
            hasher.update(operation.to_string().as_bytes());
            if let Operation::Write { data, .. } = operation {
                hasher.update(data);
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// Checks one image, and shows the operations in front of it.
    ///
    /// # Errors
    /// When it is not what was promised.
    pub fn check(&self, image: u64, show: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let mut first = 0;
        for life in &self.lives {
            if image < first + life.images() {
                let at = life.before + (image - first) as usize;
                for (number, operation) in life.operations[..at].iter().enumerate() {
                    show(&format!("{number}: {operation}"));
                }
                return self.check_at(life, &life.disk_at(at), at, image);
            }
            first += life.images();
        }
        Err(self.failure(image, format!("the history has {first} images")))
    }

    /// Checks the first images, up to `count` of them.
    ///
    /// # Errors
    /// The first that is not what was promised.
    pub fn check_first(&self, count: u64) -> Result<(), Failure> {
        let mut number = 0;
        for life in &self.lives {
            let mut player = Player::new(copy(&life.base));
            for (at, operation) in life.operations.iter().map(Some).chain([None]).enumerate() {
                if at >= life.before {
                    if number == count {
                        return Ok(());
                    }
                    self.check_at(life, &player.disk, at, number)?;
                    number += 1;
                }
                if let Some(operation) = operation {
                    player.play(operation).expect("it could be done before");
                }
            }
        }
        Ok(())
    }

    fn check_at(
        &self,
        life: &Life,
        disk: &MemoryDisk,
        at: usize,
        image: u64,
    ) -> Result<(), Failure> {
        let mut dice = Dice::new(self.seed ^ (image << 32));
        let left = image::lose_power(disk, &mut dice);
        guarded(async || image::check(&left, at, &life.model, &mut dice).await)
            .map_err(|what| self.failure(image, what))
    }

    fn failure(&self, image: u64, what: String) -> Failure {
        Failure {
            seed: self.seed,
            image: Some(image),
            what,
        }
    }
}

impl Life {
    fn images(&self) -> u64 {
        (self.operations.len() - self.before + 1) as u64
    }

    /// Where its process is killed: in front of a sync of the log, which leaves
    /// records behind that only memory holds.
    fn kill(&self, dice: &mut Dice) -> usize {
        let begun = self
            .operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Create(path) | Operation::Open(path) => Some(path.ends_with(".log")),
                _ => None,
            });
        let is_log: Vec<bool> = begun.collect();
        let syncs_log = |at: &usize| match self.operations[*at] {
            Operation::Sync(file) => is_log[file as usize],
            _ => false,
        };
        let last = self.operations.len();
        let places = (self.before..last).filter(syncs_log).collect();
        dice.pick(places).unwrap_or(last)
    }

    /// Where its power goes off.
    fn power_off(&self, dice: &mut Dice) -> usize {
        let last = self.operations.len();
        self.before + dice.below((last - self.before + 1) as u64) as usize
    }

    /// The disk after so many operations.
    fn disk_at(&self, at: usize) -> MemoryDisk {
        let mut player = Player::new(copy(&self.base));
        for operation in &self.operations[..at] {
            player.play(operation).expect("it could be done before");
        }
        player.disk
    }
}

/// A disk of its own with the same, which is all durable.
fn copy(disk: &MemoryDisk) -> MemoryDisk {
    disk.crash_losing_all()
}

async fn live(
    base: MemoryDisk,
    recorded: Vec<Operation>,
    mut model: Model,
    lie: Option<Lie>,
    dice: &mut Dice,
) -> Result<Life> {
    let recorder = Recorder::resume(copy(&base), &recorded, lie);
    let disk: Arc<dyn Disk> = Arc::new(recorder.clone());
    let volume = volume::open(disk).context("it does not open after a crash")?;
    let found = volume::look(&volume).await?;
    let names = model.judge(recorded.len(), &found);
    let names = names.map_err(anyhow::Error::msg).context("after a crash")?;
    model.opened(recorder.position(), names, &found);
    let mut work = Work::new(recorder, volume, model, Dice::new(dice.bits()));
    for _ in 0..dice.below(STEPS) + 1 {
        work.step().await.context("at work")?;
    }
    let operations = work.recorder.power_off();
    Ok(Life {
        base,
        operations,
        before: recorded.len(),
        model: work.model,
    })
}

/// Runs what may fail or panic.
fn guarded<T>(work: impl AsyncFnOnce() -> Result<T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread");
    match catch_unwind(AssertUnwindSafe(|| runtime.block_on(work()))) {
        Ok(done) => done.map_err(|error| format!("{error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("without a word")))
        }
    }
}
