//! What the package installs: helpers of mount(8), units, manual pages, completions, configuration.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use kiseki_tests::{
    Mount, Output, Result, User, is_root,
    mount::binary,
    need_tools,
    run::{copy_program, limited},
    skip,
};

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// Runs a script in a mount namespace of its own in which the helpers of
/// mount(8) are installed, so that nothing is left on the machine.
fn with_helpers(mount: &Mount, script: &str) -> Result<Option<Output>> {
    if !is_root() {
        skip("mount(8) asks its helpers for root alone");
        return Ok(None);
    }
    if !need_tools(&["unshare", "mount", "umount"]) {
        return Ok(None);
    }
    let helpers = mount.base().join("helpers");
    fs::create_dir_all(&helpers)?;
    for verb in ["mount", "umount"] {
        for name in ["kiseki", "fuse.kiseki"] {
            let source = tree().join(format!("packaging/{verb}.kiseki"));
            copy_program(source, helpers.join(format!("{verb}.{name}")))?;
        }
    }
    let kiseki = helpers.join("kiseki");
    if !kiseki.exists() {
        symlink(binary().canonicalize()?, kiseki)?;
    }
    let script = format!(
        "mount -t overlay none -o ro,lowerdir=$HELPERS:/usr/sbin /usr/sbin || exit 77
        mkdir -p /run/mount; mount -t tmpfs none /run/mount\n{script}"
    );
    let mut command = limited("unshare");
    command
        .args(["-m", "--propagation", "private", "sh", "-euxc", &script])
        .env("HELPERS", &helpers)
        .env("STORE", mount.store())
        .env("KEY", mount.key())
        .env("POINT", mount.dir())
        .env("FSTAB", mount.base().join("fstab"));
    let output = collect(mount, command)?;
    if output.code == 77 {
        skip("this kernel cannot lay the helpers over /usr/sbin (overlayfs)");
        return Ok(None);
    }
    Ok(Some(output))
}

/// Output through a file, which a daemon may keep.
fn collect(mount: &Mount, mut command: Command) -> Result<Output> {
    let path = mount.base().join("output");
    let file = fs::File::create(&path)?;
    let status = command
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .context("start a command")?;
    Ok(Output {
        code: status.code().unwrap_or(-1),
        stdout: String::new(),
        stderr: fs::read_to_string(&path)?,
    })
}

#[test]
fn mount_8_mounts_and_unmounts_through_the_helpers() -> Result {
    let Some(mount) = Mount::prepare(Default::default())? else {
        return Ok(());
    };
    let script = r#"
        mount -t fuse.kiseki "$STORE" "$POINT" -o key_file="$KEY"
        echo contents > "$POINT/file"
        findmnt -n -t fuse.kiseki "$POINT"
        umount "$POINT"
        test ! -e "$STORE/control.sock"
        mount -r -t kiseki "$STORE" "$POINT" -o key_file="$KEY",noatime,nosuid
        test "$(cat "$POINT/file")" = contents
        if echo more > "$POINT/file"; then exit 1; fi
        umount "$POINT"
    "#;
    if let Some(output) = with_helpers(&mount, script)? {
        output.ok()?;
        mount.fsck_clean()?;
    }
    Ok(())
}

#[test]
fn a_line_of_fstab_mounts() -> Result {
    let Some(mount) = Mount::prepare(Default::default())? else {
        return Ok(());
    };
    let line = format!(
        "{} {} fuse.kiseki key_file={},allow_other,nofail,memory=256M,_netdev 0 0\n",
        mount.store().display(),
        mount.dir().display(),
        mount.key().display()
    );
    fs::write(mount.base().join("fstab"), line)?;
    let script = r#"
        mount --fstab "$FSTAB" "$POINT"
        echo contents > "$POINT/file"
        mount --fstab "$FSTAB" -a
        umount "$POINT"
        mount --fstab "$FSTAB" -a
        test "$(cat "$POINT/file")" = contents
        umount "$POINT"
    "#;
    if let Some(output) = with_helpers(&mount, script)? {
        output.ok()?;
    }
    Ok(())
}

#[test]
fn units_are_valid() -> Result {
    if !need_tools(&["systemd-analyze"]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let program = binary().canonicalize()?;
    for unit in ["kiseki@.service", "kiseki-serve@.service", "kiseki.target"] {
        let text = fs::read_to_string(tree().join("packaging").join(unit))?;
        // The package's path is not there before it is installed.
        let text = text.replace("/usr/bin/kiseki", program.to_str().unwrap());
        fs::write(dir.path().join(unit), text)?;
    }
    let mut verify = limited("systemd-analyze");
    verify
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(dir.path().join("kiseki@data.service"))
        .arg(dir.path().join("kiseki-serve@data.service"))
        .arg(dir.path().join("kiseki.target"));
    for name in ["kiseki@", "kiseki-serve@"] {
        fs::copy(
            dir.path().join(format!("{name}.service")),
            dir.path().join(format!("{name}data.service")),
        )?;
    }
    let said = Output::of(&verify.output()?);
    let ours = said.stderr.lines().filter(|line| line.contains("kiseki"));
    let ours: Vec<&str> = ours.collect();
    ensure!(said.code == 0 && ours.is_empty(), "{said:?}");
    Ok(())
}

#[test]
fn what_the_package_installs_is_there() -> Result {
    let dir = tempfile::tempdir()?;
    let (man, completions) = (dir.path().join("man"), dir.path().join("completions"));
    let mut generate = limited(binary());
    generate.arg("generate").arg("--man").arg(&man);
    generate.arg("--completions").arg(&completions);
    Output::of(&generate.output()?).ok()?;
    let manifest = fs::read_to_string(tree().join("cli/Cargo.toml"))?;
    let assets = manifest.lines().filter_map(|line| {
        let source = line.trim().strip_prefix("[\"../")?;
        source.split('"').next()
    });
    let mut seen = 0;
    for asset in assets {
        seen += 1;
        let file = match asset.strip_prefix("target/generated/") {
            Some("man/*.1") => man.join("kiseki.1"),
            Some(generated) => dir.path().join(generated),
            None => tree().join(asset),
        };
        ensure!(file.is_file(), "the package lacks {asset}");
    }
    ensure!(seen > 10, "only {seen} assets found in cli/Cargo.toml");
    for verb in ["mount", "umount", "status", "fsck", "gc", "key-rotate"] {
        let page = fs::read_to_string(man.join(format!("kiseki-{verb}.1")))?;
        ensure!(page.contains(".SH"), "kiseki-{verb}.1 is no page");
    }
    ensure!(
        !man.join("kiseki-daemon.1").exists(),
        "a page of a hidden verb"
    );
    Ok(())
}

#[test]
fn every_key_of_the_example_configuration_is_known() -> Result {
    let Some(user) = User::fresh()? else {
        return Ok(());
    };
    let example = fs::read_to_string(tree().join("packaging/kiseki.toml"))?;
    let keys = example.lines().filter_map(|line| line.strip_prefix('#'));
    // Sentences begin with a space.
    let keys: Vec<&str> = keys
        .filter(|key| !key.starts_with(' ') && !key.is_empty())
        .collect();
    ensure!(keys.len() > 8, "{keys:?}");
    // The keys of a table mean something together.
    let table = keys.iter().position(|key| key.starts_with('['));
    let (keys, table) = keys.split_at(table.unwrap_or(keys.len()));
    let keys = keys.iter().map(|key| (*key).to_owned());
    let dir = user.home().join(".config/kiseki");
    fs::create_dir_all(&dir)?;
    for key in keys.chain([table.join("\n")]) {
        user.write_private(&dir.join("kiseki.toml"), &format!("{key}\n"))?;
        let said = user.kiseki(&["status", "--store", "nowhere"])?;
        ensure!(
            !said.stderr.contains("kiseki.toml") && said.stderr.contains("nowhere"),
            "{key}: {said:?}"
        );
    }
    Ok(())
}
