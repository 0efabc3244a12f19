//! `kiseki s3`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    args::{Context, KeyArgs, StoreArg},
    control::Connection,
    failure::{Code, Failure, Result},
    plan::DEFAULT_VOLUME,
    report::{print, print_json},
    s3_keys::{KeyAnswer, KeyRequest, ListedKey},
    session::{self, Session},
};

/// What to do about S3.
#[derive(Subcommand)]
pub enum S3 {
    /// Make, list and delete keys
    #[command(subcommand)]
    Key(Key),
}

/// What to do with keys.
#[derive(Subcommand)]
pub enum Key {
    /// Make a key; its secret is shown now and never again
    Create(Target),
    /// List keys
    List(Target),
    /// Delete a key; requests signed with it are refused from now on
    Delete(Delete),
}

/// Which volume, and how to answer.
#[derive(Args)]
pub struct Target {
    #[command(flatten)]
    store: StoreArg,
    /// Volume that the key opens [default: default]
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments of `kiseki s3 key delete`.
#[derive(Args)]
pub struct Delete {
    #[command(flatten)]
    target: Target,
    /// Id of the key
    #[arg(value_name = "ACCESS_KEY_ID")]
    id: String,
}

#[derive(Serialize)]
struct Created {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
}

#[derive(Serialize)]
struct Listing {
    store: PathBuf,
    keys: Vec<ListedKey>,
}

#[derive(Serialize)]
struct Deleted {
    access_key_id: String,
}

impl S3 {
    /// Does it.
    pub fn run(&self, context: &Context) -> Result<Code> {
        let S3::Key(key) = self;
        match key {
            Key::Create(target) => target.create(context),
            Key::List(target) => target.list(context),
            Key::Delete(verb) => verb.run(context),
        }
    }
}

impl Target {
    /// Has the daemon do it that has the store, or opens the store.
    fn ask(&self, context: &Context, request: KeyRequest) -> Result<KeyAnswer> {
        let store = self.store.dir(context)?;
        let wanted = self.volume.as_ref().or(context.config.volume.as_ref());
        if let Some((connection, daemon)) = Connection::to(&store)? {
            return match self.volume.as_ref().filter(|name| **name != daemon.volume) {
                None => connection.s3_key(request),
                Some(name) => Err(Failure::new(format!("the volume {name} is not open"))
                    .why(format!(
                        "process {} has the store, for the volume {}",
                        daemon.pid, daemon.volume
                    ))
                    .remedy("end that process first")),
            };
        }
        let info = session::inspect(&store)?.ok_or_else(|| session::no_store(&store))?;
        let secret = self.key.needed_secret(context, &store, &info)?;
        let wanted = wanted.map_or(DEFAULT_VOLUME, String::as_str);
        Session::open(&store, &secret)?.s3_key(wanted, request)
    }

    fn create(&self, context: &Context) -> Result<Code> {
        let KeyAnswer::Created {
            access_key_id,
            secret_access_key,
        } = self.ask(context, KeyRequest::Create)?
        else {
            return Err(misunderstood());
        };
        if self.json {
            print_json(&Created {
                access_key_id,
                secret_access_key,
            })?;
        } else {
            let text = Zeroizing::new(format!(
                "access_key_id      {access_key_id}\nsecret_access_key  {}\n",
                secret_access_key.as_str()
            ));
            print(&text)?;
        }
        Ok(Code::Good)
    }

    fn list(&self, context: &Context) -> Result<Code> {
        let KeyAnswer::Keys(keys) = self.ask(context, KeyRequest::List)? else {
            return Err(misunderstood());
        };
        if self.json {
            let store = self.store.dir(context)?;
            print_json(&Listing { store, keys })?;
        } else {
            let lines: Vec<String> = keys
                .iter()
                .map(|key| format!("{}\n", key.access_key_id))
                .collect();
            print(&lines.concat())?;
        }
        Ok(Code::Good)
    }
}

impl Delete {
    fn run(&self, context: &Context) -> Result<Code> {
        let request = KeyRequest::Delete(self.id.clone());
        match self.target.ask(context, request)? {
            KeyAnswer::Deleted(true) => {}
            KeyAnswer::Deleted(false) => {
                return Err(Failure::new(format!("there is no key {}", self.id))
                    .remedy("`kiseki s3 key list` shows those there are"));
            }
            _ => return Err(misunderstood()),
        }
        if self.target.json {
            print_json(&Deleted {
                access_key_id: self.id.clone(),
            })?;
        }
        Ok(Code::Good)
    }
}

fn misunderstood() -> Failure {
    Failure::new("the daemon answered something else")
        .remedy("end it and start it again after an upgrade")
}
