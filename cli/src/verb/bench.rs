//! `kiseki bench`.

use std::{
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use clap::Args;
use inferno::flamegraph;
use kiseki_bench::{measure_directory, round_trips::Counter, scale::Scale, table};

use crate::{
    control::Connection,
    failure::{Attempt, Code, Failure, Result},
    mounts,
    places::absolute,
    profile::{ProfileAnswer, ProfileRequest},
    report::{print, print_json},
};

/// Arguments of `kiseki bench`.
#[derive(Args)]
pub struct Bench {
    /// Smaller sizes and two rounds
    #[arg(long)]
    quick: bool,
    /// Groups of rows to measure, as `bench/README.md` lists them
    /// [default: all]
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    only: Vec<String>,
    /// Seed of payloads; a store that has seen one knows its data
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Also write a flame graph of the daemon, as SVG; DIR is in a mount of
    /// kiseki then
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Directory to measure, on any file system
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl Bench {
    /// Runs the workloads in a directory of their own, which is removed
    /// afterwards.
    pub fn run(&self) -> Result<Code> {
        let scale = if self.quick {
            Scale::QUICK
        } else {
            Scale::FULL
        };
        let seed = self.seed.unwrap_or_else(unused_seed);
        let dir = absolute(&self.dir)?;
        let profile = self.profile.as_deref();
        let profile = profile.map(|file| Profile::start(&dir, file));
        let profile = profile.transpose()?;
        let figures =
            measure_directory(&dir, scale, &self.only, seed, Some(counter)).map_err(|error| {
                Failure::new(format!("{} could not be measured", dir.display()))
                    .why(format!("{error:#}"))
            })?;
        if let Some(profile) = profile {
            profile.finish()?;
        }
        if self.json {
            print_json(&figures)?;
        } else {
            print(&table::text(&figures))?;
        }
        Ok(Code::Good)
    }
}

/// A profile of the daemon while it is measured.
struct Profile<'a> {
    store: PathBuf,
    file: &'a Path,
}

impl Profile<'_> {
    fn start<'a>(dir: &Path, file: &'a Path) -> Result<Profile<'a>> {
        let mount = mounts::around(dir)?.ok_or_else(|| {
            Failure::usage(format!("{} is in no mount of kiseki", dir.display()))
                .remedy("leave --profile out, or measure a mount")
        })?;
        let profile = Profile {
            store: mount.store,
            file,
        };
        profile.ask(ProfileRequest::Start)?;
        Ok(profile)
    }

    fn ask(&self, request: ProfileRequest) -> Result<ProfileAnswer> {
        let connection = Connection::to(&self.store)?;
        let (connection, _) = connection.ok_or_else(|| Failure::new("the mount has no daemon"))?;
        connection.profile(request)
    }

    fn finish(self) -> Result<()> {
        let mut stacks = Vec::new();
        for page in 0..self.ask(ProfileRequest::Stop)?.pages {
            stacks.extend(self.ask(ProfileRequest::Page(page))?.stacks);
        }
        let cannot = || format!("cannot write {}", self.file.display());
        let mut out = BufWriter::new(File::create(self.file).attempt(cannot)?);
        let mut options = flamegraph::Options::default();
        "kiseki, time on a processor".clone_into(&mut options.title);
        let lines = stacks.iter().map(String::as_str);
        flamegraph::from_lines(&mut options, lines, &mut out)
            .map_err(std::io::Error::other)
            .and_then(|()| out.flush())
            .attempt(cannot)
    }
}

/// Counts requests of the mount that `dir` lies in, where it is one of ours.
fn counter(dir: &Path) -> Option<Counter> {
    let mount = mounts::around(dir).ok()??;
    let device = |path: &Path| std::fs::metadata(path).map(|about| about.dev()).ok();
    if device(dir) != device(&mount.point) {
        return None;
    }
    let store = mount.store;
    Connection::to(&store).ok()??;
    Some(Box::new(move || {
        let (connection, _) = Connection::to(&store)
            .map_err(|failure| failure.to_string())?
            .ok_or("the mount has no daemon")?;
        let all = connection.stats().map_err(|failure| failure.to_string())?;
        let counts = all.operations.into_iter().map(|op| (op.name, op.count));
        Ok(counts.collect())
    }))
}

/// Another one on each run, or the second run in a store would write what is
/// stored already.
fn unused_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |since| since.as_nanos() as u64)
}
