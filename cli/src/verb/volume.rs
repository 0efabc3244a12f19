//! `kiseki volume`.

use std::{
    io::{IsTerminal, stdin},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    args::{Context, KeyArgs, StoreArg},
    failure::{Attempt, Code, Failure, Result},
    mount_options::Policy,
    progress::Progress,
    report::{print, print_json},
    session::{Session, VolumeEntry},
};

/// What to do with volumes.
#[derive(Subcommand)]
pub enum Volume {
    /// Make a volume in a store that exists
    Create(Create),
    /// List the volumes of a store
    List(List),
    /// Destroy a volume and its keys, for good
    Destroy(Destroy),
}

#[derive(Args)]
struct Opened {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    key: KeyArgs,
}

/// Arguments of `kiseki volume create`.
#[derive(Args)]
pub struct Create {
    #[command(flatten)]
    opened: Opened,
    /// How files are cut into chunks [default: auto]
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Name of the new volume
    name: String,
}

/// Arguments of `kiseki volume list`.
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    opened: Opened,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments of `kiseki volume destroy`.
#[derive(Args)]
pub struct Destroy {
    #[command(flatten)]
    opened: Opened,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Name of the volume
    name: String,
}

#[derive(Serialize)]
struct Listing {
    store: PathBuf,
    volumes: Vec<VolumeEntry>,
}

impl Opened {
    fn open(&self, context: &Context) -> Result<(PathBuf, Session)> {
        let store = self.store.dir(context)?;
        let session = self.key.open(context, &store)?;
        Ok((store, session))
    }
}

impl Volume {
    /// Runs one of the three.
    pub fn run(&self, context: &Context) -> Result<Code> {
        match self {
            Volume::Create(verb) => verb.run(context),
            Volume::List(verb) => verb.run(context),
            Volume::Destroy(verb) => verb.run(context),
        }
    }
}

impl Create {
    fn run(&self, context: &Context) -> Result<Code> {
        let (_, session) = self.opened.open(context)?;
        let policy = self.policy.or(context.config.policy).unwrap_or_default();
        session.create_volume(&self.name, policy)?;
        Ok(Code::Good)
    }
}

impl List {
    fn run(&self, context: &Context) -> Result<Code> {
        let (store, session) = self.opened.open(context)?;
        let volumes = session.volumes()?;
        if self.json {
            print_json(&Listing { store, volumes })?;
        } else {
            let lines: Vec<String> = volumes
                .iter()
                .map(|volume| format!("{}  {}\n", volume.id, volume.name))
                .collect();
            print(&lines.concat())?;
        }
        Ok(Code::Good)
    }
}

impl Destroy {
    fn run(&self, context: &Context) -> Result<Code> {
        let (store, session) = self.opened.open(context)?;
        if !session
            .volumes()?
            .iter()
            .any(|volume| volume.name == self.name)
        {
            return Err(Failure::new(format!(
                "the store {} has no volume `{}`",
                store.display(),
                self.name
            ))
            .remedy("`kiseki volume list` names those there are"));
        }
        if !self.yes {
            self.ask()?;
        }
        let mut progress = Progress::start("destroying");
        session.destroy_volume(&self.name, &mut |done, total| progress.update(done, total))?;
        Ok(Code::Good)
    }

    fn ask(&self) -> Result<()> {
        if !stdin().is_terminal() {
            return Err(Failure::new(format!("`{}` was not destroyed", self.name))
                .why("there is no terminal to ask on")
                .remedy("give --yes if this is meant"));
        }
        eprintln!(
            "All data of the volume `{0}` will be gone for good. Type its name to go on:",
            self.name
        );
        let mut answer = String::new();
        stdin()
            .read_line(&mut answer)
            .attempt(|| "cannot read the answer".into())?;
        if answer.trim_end_matches(['\r', '\n']) == self.name {
            Ok(())
        } else {
            Err(Failure::new(format!("`{}` was not destroyed", self.name))
                .why("the answer was another name"))
        }
    }
}
