//! `kiseki s3`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    args::{Context, VolumeArgs},
    control,
    failure::{Code, Failure, Result},
    report::{print, print_json},
    s3_keys::{KeyAnswer, KeyRequest, ListedKey},
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
    volume: VolumeArgs,
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
    fn ask(&self, context: &Context, request: KeyRequest) -> Result<KeyAnswer> {
        self.volume.ask(
            context,
            request,
            |daemon, request| daemon.s3_key(request),
            |session, volume, request| session.s3_key(volume, request),
        )
    }

    fn create(&self, context: &Context) -> Result<Code> {
        let KeyAnswer::Created {
            access_key_id,
            secret_access_key,
        } = self.ask(context, KeyRequest::Create)?
        else {
            return Err(control::misunderstood(&self.volume.store(context)?));
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
            return Err(control::misunderstood(&self.volume.store(context)?));
        };
        if self.json {
            let store = self.volume.store(context)?;
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
            _ => return Err(control::misunderstood(&self.target.volume.store(context)?)),
        }
        if self.target.json {
            print_json(&Deleted {
                access_key_id: self.id.clone(),
            })?;
        }
        Ok(Code::Good)
    }
}
