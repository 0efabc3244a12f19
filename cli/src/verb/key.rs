//! `kiseki key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    args::{Context, KeyArgs, StoreArg},
    failure::{Code, Result},
    report::{print, print_json},
    secrets::Source,
    session::{self, Slot},
};

/// What to do with keys.
#[derive(Subcommand)]
pub enum Key {
    /// Let a passphrase open the store as well
    AddPassphrase(AddPassphrase),
    /// Seal everything new under new keys
    Rotate(Rotate),
    /// List what opens the store
    List(List),
}

/// Arguments of `kiseki key add-passphrase`.
#[derive(Args)]
pub struct AddPassphrase {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    key: KeyArgs,
    /// File whose first line is the new passphrase [default: ask]
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

/// Arguments of `kiseki key rotate`.
#[derive(Args)]
pub struct Rotate {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    key: KeyArgs,
    /// Volume whose sealing key is to change [default: all]
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
}

/// Arguments of `kiseki key list`.
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    store: StoreArg,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    store: PathBuf,
    slots: Vec<Slot>,
}

impl Key {
    /// Runs one of the three.
    pub fn run(&self, context: &Context) -> Result<Code> {
        match self {
            Key::AddPassphrase(verb) => verb.run(context),
            Key::Rotate(verb) => verb.run(context),
            Key::List(verb) => verb.run(context),
        }
    }
}

impl AddPassphrase {
    fn run(&self, context: &Context) -> Result<Code> {
        let session = self.key.open(context, &self.store.dir(context)?)?;
        let source = self.new_passphrase_file.clone();
        let source = source.map_or(Source::Terminal, Source::PassphraseFile);
        session.add_passphrase(source.read(true)?)?;
        eprintln!(
            "kiseki: this passphrase opens the store from now on, beside what opened it before"
        );
        Ok(Code::Good)
    }
}

impl Rotate {
    fn run(&self, context: &Context) -> Result<Code> {
        let session = self.key.open(context, &self.store.dir(context)?)?;
        let names = match &self.volume {
            // One that does not exist is an error.
            Some(name) => vec![name.clone()],
            None => session.volumes()?.into_iter().map(|v| v.name).collect(),
        };
        for name in names {
            let epoch = session.rotate(&name)?;
            print(&format!("{name}: new data is sealed under key {epoch}\n"))?;
        }
        Ok(Code::Good)
    }
}

impl List {
    fn run(&self, context: &Context) -> Result<Code> {
        let store = self.store.dir(context)?;
        let slots = session::slots(&store)?;
        if self.json {
            print_json(&Listing { store, slots })?;
        } else {
            let lines: Vec<String> = slots
                .iter()
                .map(|slot| format!("{}  {}\n", slot.id, slot.kind))
                .collect();
            print(&lines.concat())?;
        }
        Ok(Code::Good)
    }
}
