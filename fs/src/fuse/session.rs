//! The requests of the `fuser` crate, translated into operations. Nothing is
//! decided here.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use kiseki_core::{
    engine::{Caller, FrontId, SetAttr, Volume},
    ids::{Ino, RequestId},
};
use nix::libc;

use super::{
    convert::{self, ino},
    dispatch::Dispatcher,
    fail::Fail,
    invalidate::Opened,
    negotiate::negotiate,
    op::Op,
    ops::{Name, again, attrs, dirs, files, names, xattrs},
    options::{MountOptions, StatusProvider},
    reply as answer,
};

/// What answers need.
pub(super) struct Shared {
    pub volume: Volume,
    pub front: FrontId,
    pub ttl: Duration,
    pub cache_directories: bool,
    pub status: Option<StatusProvider>,
    pub opened: Arc<Opened>,
}

/// A mount's side of `fuser`.
pub(super) struct Session {
    pub shared: Arc<Shared>,
    pub dispatcher: Dispatcher,
    pub options: MountOptions,
    /// Set when the kernel can send requests again.
    pub sends_again: Arc<AtomicBool>,
    /// Called when the session ends.
    pub ended: Box<dyn Fn() + Send + Sync>,
}

impl Session {
    fn parts(&self) -> (Volume, Arc<Shared>) {
        (self.shared.volume.clone(), Arc::clone(&self.shared))
    }

    /// Who asks. Root may keep set-id bits; see `negotiate`.
    fn caller(&self, request: &Request, umask: u32) -> Caller {
        Caller {
            uid: request.uid(),
            gid: request.gid(),
            umask,
            privileged: request.uid() == 0,
            front: self.shared.front,
            request: identity(request),
        }
    }

    /// What a request did that is sent again; `None` for one that is new, and
    /// for one that was not done.
    fn done_before(&self, request: &Request) -> Option<Ino> {
        let again = u64::from(request.unique()) & SENT_AGAIN != 0;
        again.then(|| self.shared.volume.done(identity(request)))?
    }
}

/// Mark in the number of a request that the kernel sends again.
const SENT_AGAIN: u64 = 1 << 63;

fn identity(request: &Request) -> RequestId {
    RequestId(u64::from(request.unique()) & !SENT_AGAIN)
}

fn name(name: &OsStr) -> Name {
    name.as_bytes().into()
}

impl Filesystem for Session {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config, &self.options);
        let can = config.capabilities().contains(InitFlags::FUSE_HAS_RESEND);
        self.sends_again.store(can, Ordering::Release);
        Ok(())
    }

    fn destroy(&mut self) {
        (self.ended)();
    }

    fn lookup(&self, _: &Request, parent: INodeNo, entry: &OsStr, reply: ReplyEntry) {
        let (volume, shared) = self.parts();
        let parent = ino(parent);
        self.dispatcher.ask(
            Op::Lookup,
            names::lookup(&self.shared.volume, parent, entry.as_bytes()),
            || names::lookup(volume, parent, name(entry)),
            move |done| shared.found(reply, done),
        );
    }

    fn forget(&self, _: &Request, node: INodeNo, count: u64) {
        self.dispatcher.run_now(Op::Forget, || {
            self.shared.opened.remove(ino(node));
            self.shared.volume.forget(ino(node), count);
        });
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let (volume, shared) = self.parts();
        let node = ino(node);
        self.dispatcher.ask(
            Op::Getattr,
            attrs::getattr(&self.shared.volume, node),
            || attrs::getattr(volume, node),
            move |done| shared.attr(reply, done),
        );
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = SetAttr {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(convert::set_time),
            mtime: mtime.map(convert::set_time),
            ctime: ctime.map(convert::requested_time),
        };
        let (volume, shared) = self.parts();
        let run = attrs::setattr(volume, self.caller(request, 0), ino(node), change);
        self.dispatcher
            .run(Op::Setattr, run, move |done| shared.attr(reply, done));
    }

    fn readlink(&self, _: &Request, node: INodeNo, reply: ReplyData) {
        let volume = self.shared.volume.clone();
        let run = async move { Ok(volume.readlink(ino(node)).await?) };
        self.dispatcher
            .run(Op::Readlink, run, move |done| answer::data(reply, done));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        entry: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (volume, shared) = self.parts();
        let who = self.caller(request, umask);
        let run = names::mknod(volume, who, ino(parent), name(entry), mode, rdev);
        let run = again::entry(self.done_before(request), self.shared.volume.clone(), run);
        self.dispatcher
            .run(Op::Mknod, run, move |done| shared.entry(reply, done));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        entry: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (volume, shared) = self.parts();
        let who = self.caller(request, umask);
        let run = names::mkdir(volume, who, ino(parent), name(entry), mode);
        let run = again::entry(self.done_before(request), self.shared.volume.clone(), run);
        self.dispatcher
            .run(Op::Mkdir, run, move |done| shared.entry(reply, done));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, entry: &OsStr, reply: ReplyEmpty) {
        let (volume, who) = (self.shared.volume.clone(), self.caller(request, 0));
        let run = names::unlink(volume, who, ino(parent), name(entry));
        let run = again::change(self.done_before(request), run);
        self.dispatcher
            .run(Op::Unlink, run, move |done| answer::empty(reply, done));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, entry: &OsStr, reply: ReplyEmpty) {
        let (volume, who) = (self.shared.volume.clone(), self.caller(request, 0));
        let run = names::rmdir(volume, who, ino(parent), name(entry));
        let run = again::change(self.done_before(request), run);
        self.dispatcher
            .run(Op::Rmdir, run, move |done| answer::empty(reply, done));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        entry: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (volume, shared) = self.parts();
        let who = self.caller(request, 0);
        let target = name(target.as_os_str());
        let run = names::symlink(volume, who, ino(parent), name(entry), target);
        let run = again::entry(self.done_before(request), self.shared.volume.clone(), run);
        self.dispatcher
            .run(Op::Symlink, run, move |done| shared.entry(reply, done));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        entry: &OsStr,
        new_parent: INodeNo,
        new_entry: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (volume, who) = (self.shared.volume.clone(), self.caller(request, 0));
        let from = (ino(parent), name(entry));
        let to = (ino(new_parent), name(new_entry));
        let run = names::rename(volume, who, from, to, flags.bits());
        let run = again::change(self.done_before(request), run);
        self.dispatcher
            .run(Op::Rename, run, move |done| answer::empty(reply, done));
    }

    fn link(
        &self,
        request: &Request,
        node: INodeNo,
        parent: INodeNo,
        entry: &OsStr,
        reply: ReplyEntry,
    ) {
        let (volume, shared) = self.parts();
        let who = self.caller(request, 0);
        let run = names::link(volume, who, ino(node), ino(parent), name(entry));
        let run = again::entry(self.done_before(request), self.shared.volume.clone(), run);
        self.dispatcher
            .run(Op::Link, run, move |done| shared.entry(reply, done));
    }

    fn open(&self, _: &Request, node: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let (volume, shared) = self.parts();
        let (node, late) = (ino(node), volume.clone());
        let run = files::open(volume, node);
        self.dispatcher.run_or_undo(
            Op::Open,
            run,
            move |done| shared.open(reply, node, done),
            move |_| close_late(late, node),
        );
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        entry: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (volume, shared) = self.parts();
        let (who, late) = (self.caller(request, umask), volume.clone());
        let run = files::create(volume, who, ino(parent), name(entry), mode, flags);
        let run = again::create(self.done_before(request), self.shared.volume.clone(), run);
        self.dispatcher.run_or_undo(
            Op::Create,
            run,
            move |done| shared.created(reply, done),
            move |attr| close_late(late, attr.ino),
        );
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let run = files::read(self.shared.volume.clone(), ino(node), offset, size);
        self.dispatcher.run_measured(
            Op::Read,
            run,
            |data| data.len() as u64,
            move |done| {
                answer::data(reply, done);
            },
        );
    }

    fn write(
        &self,
        request: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut who = self.caller(request, 0);
        // Here the kernel says exactly who may keep set-id bits.
        who.privileged = !write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let volume = self.shared.volume.clone();
        if !files::is_synchronous(flags.0) {
            let quick = || Ok(volume.try_write(&who, ino(node), offset, data)?);
            if let Some(done) = self
                .dispatcher
                .attempt(Op::Write, quick, |bytes| u64::from(*bytes))
            {
                return answer::written(reply, done);
            }
        }
        // The request's buffer serves the next request; one that waits keeps its data.
        let data = Bytes::copy_from_slice(data);
        let run = files::write(volume, who, ino(node), offset, data, flags.0);
        self.dispatcher.run_measured(
            Op::Write,
            run,
            |bytes| u64::from(*bytes),
            move |done| {
                answer::written(reply, done);
            },
        );
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // No open asks for it; a kernel that does not know so hears it once.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let run = files::release(self.shared.volume.clone(), ino(node));
        self.dispatcher
            .run(Op::Release, run, move |done| answer::empty(reply, done));
    }

    fn fsync(&self, _: &Request, node: INodeNo, _: FileHandle, data: bool, reply: ReplyEmpty) {
        let run = files::fsync(self.shared.volume.clone(), ino(node), data);
        self.dispatcher
            .run(Op::Fsync, run, move |done| answer::empty(reply, done));
    }

    // The kernel's reference keeps an open directory; the engine need not know.
    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.dispatcher
            .run_now(Op::Opendir, || self.shared.opened_directory(reply));
    }

    fn readdir(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let page = answer::list_page(reply);
        let volume = self.shared.volume.clone();
        let run = dirs::list(volume, ino(node), offset, Arc::clone(&page));
        self.dispatcher
            .run(Op::Readdir, run, move |done| Shared::list(&page, done));
    }

    fn readdirplus(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let page = answer::list_plus_page(reply, self.shared.ttl);
        let (volume, shared) = self.parts();
        let run = dirs::list_plus(volume, ino(node), offset, Arc::clone(&page));
        self.dispatcher.run(Op::Readdirplus, run, move |done| {
            shared.list_plus(&page, done);
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.dispatcher.run_now(Op::Releasedir, || reply.ok());
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, data: bool, reply: ReplyEmpty) {
        let run = files::fsync(self.shared.volume.clone(), ino(node), data);
        self.dispatcher
            .run(Op::Fsyncdir, run, move |done| answer::empty(reply, done));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let run = attrs::statfs(self.shared.volume.clone());
        self.dispatcher
            .run(Op::Statfs, run, move |done| answer::statfs(reply, done));
    }

    fn setxattr(
        &self,
        request: &Request,
        node: INodeNo,
        attribute: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let (volume, who) = (self.shared.volume.clone(), self.caller(request, 0));
        let run = xattrs::set(volume, who, ino(node), name(attribute), value.into(), flags);
        let run = again::change(self.done_before(request), run);
        self.dispatcher
            .run(Op::Setxattr, run, move |done| answer::empty(reply, done));
    }

    fn getxattr(
        &self,
        _: &Request,
        node: INodeNo,
        attribute: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let status = self.shared.status.clone();
        let volume = self.shared.volume.clone();
        let run = xattrs::get(volume, ino(node), name(attribute), status);
        self.dispatcher.run(Op::Getxattr, run, move |done| {
            answer::xattr(reply, size, &done);
        });
    }

    fn listxattr(&self, _: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        let run = xattrs::list(self.shared.volume.clone(), ino(node));
        self.dispatcher.run(Op::Listxattr, run, move |done| {
            answer::xattr(reply, size, &done);
        });
    }

    fn removexattr(&self, request: &Request, node: INodeNo, attribute: &OsStr, reply: ReplyEmpty) {
        let (volume, who) = (self.shared.volume.clone(), self.caller(request, 0));
        let run = xattrs::remove(volume, who, ino(node), name(attribute));
        let run = again::change(self.done_before(request), run);
        self.dispatcher
            .run(Op::Removexattr, run, move |done| answer::empty(reply, done));
    }

    fn fallocate(
        &self,
        request: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (volume, who) = (self.shared.volume.clone(), self.caller(request, 0));
        let run = files::allocate(volume, who, ino(node), mode, offset, length);
        let run = again::change(self.done_before(request), run);
        self.dispatcher
            .run(Op::Fallocate, run, move |done| answer::empty(reply, done));
    }

    fn lseek(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let run = files::seek(self.shared.volume.clone(), ino(node), offset, whence);
        self.dispatcher.run(Op::Lseek, run, move |done| match done {
            Ok(offset) => reply.offset(offset),
            Err(Fail(errno)) => reply.error(convert::errno(errno)),
        });
    }

    fn copy_file_range(
        &self,
        request: &Request,
        node_in: INodeNo,
        _: FileHandle,
        offset_in: u64,
        node_out: INodeNo,
        _: FileHandle,
        offset_out: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (volume, who) = (self.shared.volume.clone(), self.caller(request, 0));
        let from = (ino(node_in), offset_in);
        let to = (ino(node_out), offset_out);
        let run = files::copy(volume, who, from, to, len);
        self.dispatcher.run(Op::CopyFileRange, run, move |done| {
            answer::written(reply, done);
        });
    }

    // ENOSYS once, and the kernel never asks again: it checks permissions
    // itself, treats files as always ready, and has no blocks to map.
    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(convert::errno(nix::errno::Errno::from_raw(libc::ENOTTY)));
    }
}

/// Closes a file whose opener was answered before the open was done; such
/// results arrive on the runtime.
fn close_late(volume: Volume, node: Ino) {
    tokio::spawn(async move {
        if let Err(error) = volume.release(node).await {
            tracing::warn!("cannot close a file after a missed deadline: {error}");
        }
    });
}
