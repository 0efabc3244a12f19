//! Checks images of what power loss may leave of a store.

use std::{process::ExitCode, thread, time::Instant};

use clap::Parser;
use kiseki_tests::power::{Failure, History};
use parking_lot::Mutex;

/// Makes histories of a volume, takes away the power behind every operation of
/// its disk, opens what is left and compares it with what was promised.
#[derive(Parser)]
struct Arguments {
    /// The first history; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many images are to be checked.
    #[arg(long, default_value_t = 20_000)]
    images: u64,
    /// Check this image of the history alone.
    #[arg(long)]
    image: Option<u64>,
    /// Threads; by default one for each core.
    #[arg(long)]
    jobs: Option<usize>,
}

/// What the threads share.
struct Run {
    plan: Mutex<Plan>,
    failures: Mutex<Vec<Failure>>,
}

/// What is still to be done, and what was.
struct Plan {
    next_seed: u64,
    images_left: u64,
    histories: u64,
    operations: u64,
    digest: blake3::Hasher,
}

impl Run {
    fn work(&self) {
        while self.failures.lock().is_empty() {
            let outcome = match self.next() {
                Ok(Some((history, images))) => history.check_first(images),
                Ok(None) => return,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = outcome {
                self.failures.lock().push(failure);
            }
        }
    }

    /// The next history, and how many of its images are to be checked. One
    /// after the other, so that a seed gives the same images on all machines.
    fn next(&self) -> Result<Option<(History, u64)>, Failure> {
        let mut plan = self.plan.lock();
        if plan.images_left == 0 {
            return Ok(None);
        }
        let history = History::record(plan.next_seed, None)?;
        let images = history.images().min(plan.images_left);
        plan.next_seed += 1;
        plan.images_left -= images;
        plan.histories += 1;
        plan.operations += history.operations();
        plan.digest.update(&history.digest());
        Ok(Some((history, images)))
    }
}

fn report(failure: &Failure) {
    let Failure { seed, image, what } = failure;
    match image {
        Some(image) => {
            eprintln!("FAILED: history {seed}, image {image}: {what}");
            eprintln!("again: scripts/powerloss --seed {seed} --image {image}");
        }
        None => {
            eprintln!("FAILED: history {seed}: {what}");
            eprintln!("again: scripts/powerloss --seed {seed} --images 1");
        }
    }
}

fn check_one(seed: u64, image: u64) -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .init();
    let mut show = |operation: &str| println!("{operation}");
    match History::record(seed, None).and_then(|history| history.check(image, &mut show)) {
        Ok(()) => {
            println!("history {seed}, image {image}: as promised");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            report(&failure);
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(image) = arguments.image {
        return check_one(arguments.seed, image);
    }
    let began = Instant::now();
    let run = Run {
        plan: Mutex::new(Plan {
            next_seed: arguments.seed,
            images_left: arguments.images,
            histories: 0,
            operations: 0,
            digest: blake3::Hasher::new(),
        }),
        failures: Mutex::default(),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.unwrap_or(cores) {
            scope.spawn(|| run.work());
        }
    });
    let failures = run.failures.into_inner();
    failures.iter().for_each(report);
    let plan = run.plan.into_inner();
    println!(
        "powerloss: {} images of {} operations in {} histories (digest {}), {} failed, in {} s",
        arguments.images - plan.images_left,
        plan.operations,
        plan.histories,
        &plan.digest.finalize().to_hex()[..16],
        failures.len(),
        began.elapsed().as_secs()
    );
    match failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
