//! `kiseki export`.

use clap::{Args, Subcommand, ValueEnum};
use kiseki_fs::nfs::export::{Clients, Rule, rule::SquashKind};
use serde::Serialize;

use crate::{
    args::{Context, VolumeArgs},
    control,
    exports::{ExportAnswer, ExportRequest},
    failure::{Code, Failure, Result},
    report::{print, print_json},
};

/// What to do about exports of NFS.
#[derive(Subcommand)]
pub enum Export {
    /// List what is exported to whom, in the order in which rules count
    List(List),
    /// Export a directory to some clients, at once if a server runs
    Add(Add),
    /// Take an export away; its clients are refused from now on
    Remove(Remove),
}

/// Arguments of `kiseki export list`.
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    volume: VolumeArgs,
    /// One JSON array on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments of `kiseki export add`.
#[derive(Args)]
pub struct Add {
    #[command(flatten)]
    volume: VolumeArgs,
    /// Directory, from the root of the volume
    #[arg(value_name = "PATH")]
    path: String,
    /// Address, network such as 192.168.1.0/24, `loopback`, or `*` for all
    #[arg(value_name = "CLIENTS")]
    clients: Clients,
    /// Clients may only read
    #[arg(long)]
    read_only: bool,
    /// Which users of the clients become nobody
    #[arg(long, value_enum, default_value_t)]
    squash: SquashArg,
    /// User that those become
    #[arg(long, value_name = "UID")]
    anonymous_uid: Option<u32>,
    /// Their group
    #[arg(long, value_name = "GID")]
    anonymous_gid: Option<u32>,
}

/// Arguments of `kiseki export remove`.
#[derive(Args)]
pub struct Remove {
    #[command(flatten)]
    volume: VolumeArgs,
    /// Directory, from the root of the volume
    #[arg(value_name = "PATH")]
    path: String,
    /// Only for these clients
    #[arg(value_name = "CLIENTS")]
    clients: Option<Clients>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum SquashArg {
    /// Root
    #[default]
    Root,
    /// None of them
    None,
    /// All of them
    All,
}

/// A rule, and where it comes from.
#[derive(Serialize)]
struct Listed {
    from: &'static str,
    #[serde(flatten)]
    rule: Rule,
}

impl Export {
    /// Does it.
    pub fn run(&self, context: &Context) -> Result<Code> {
        match self {
            Export::List(verb) => verb.run(context),
            Export::Add(verb) => verb.run(context),
            Export::Remove(verb) => verb.run(context),
        }
    }
}

fn ask(volume: &VolumeArgs, context: &Context, request: ExportRequest) -> Result<ExportAnswer> {
    volume.ask(
        context,
        request,
        |daemon, request| daemon.export(request),
        |session, volume, request| session.export(volume, request),
    )
}

impl List {
    fn run(&self, context: &Context) -> Result<Code> {
        let ExportAnswer::Kept(kept) = ask(&self.volume, context, ExportRequest::List)? else {
            return Err(control::misunderstood(&self.volume.store(context)?));
        };
        let mut all = Vec::new();
        let mut take = |from, rules: Vec<Rule>| {
            all.extend(rules.into_iter().map(|rule| Listed { from, rule }));
        };
        take("configuration", context.config.export_rules()?);
        take("volume", kept);
        take("default", vec![Rule::of_this_machine()]);
        if self.json {
            print_json(&all)?;
        } else {
            let lines: Vec<String> = all.iter().map(line).collect();
            print(&lines.concat())?;
        }
        Ok(Code::Good)
    }
}

fn line(listed: &Listed) -> String {
    let rule = &listed.rule;
    let access = if rule.read_only { "ro" } else { "rw" };
    let squash = match rule.squash {
        SquashKind::Root => "root squashed",
        SquashKind::None => "nobody squashed",
        SquashKind::All => "all squashed",
    };
    format!(
        "{}  {}  {access}, {squash}  ({})\n",
        rule.path, rule.clients, listed.from
    )
}

impl Add {
    fn run(&self, context: &Context) -> Result<Code> {
        let mut rule = Rule::new(&self.path, self.clients)
            .map_err(|error| Failure::usage(error.to_string()))?;
        rule.read_only = self.read_only;
        rule.squash = match self.squash {
            SquashArg::Root => SquashKind::Root,
            SquashArg::None => SquashKind::None,
            SquashArg::All => SquashKind::All,
        };
        rule.anonymous_uid = self.anonymous_uid.unwrap_or(rule.anonymous_uid);
        rule.anonymous_gid = self.anonymous_gid.unwrap_or(rule.anonymous_gid);
        match ask(&self.volume, context, ExportRequest::Add(rule))? {
            ExportAnswer::Added(_) => Ok(Code::Good),
            _ => Err(control::misunderstood(&self.volume.store(context)?)),
        }
    }
}

impl Remove {
    fn run(&self, context: &Context) -> Result<Code> {
        let wanted = Rule::new(&self.path, Clients::All)
            .map_err(|error| Failure::usage(error.to_string()))?;
        let request = ExportRequest::Remove(wanted.path, self.clients);
        match ask(&self.volume, context, request)? {
            ExportAnswer::Removed(0) => Err(Failure::new(format!(
                "the volume has no such export of {}",
                self.path
            ))
            .remedy("`kiseki export list` shows those there are, and where they come from")),
            ExportAnswer::Removed(_) => Ok(Code::Good),
            _ => Err(control::misunderstood(&self.volume.store(context)?)),
        }
    }
}
