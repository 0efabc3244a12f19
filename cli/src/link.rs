//! What a supervisor and the daemon it started tell each other: packets over a
//! pair of sockets, some with descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::control::Daemon;

/// What a daemon tells its supervisor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// It is mounted; with the packet comes the device, to be kept.
    Mounted,
    /// The mount answers.
    Answers(Daemon),
    /// It did not come so far.
    Failed {
        /// For the user.
        message: String,
        /// The exit code is the one for damage.
        damage: bool,
    },
    /// The mount is gone, and everything is written out as far as that goes.
    Ended,
    /// The program at this path is to take the place of this one.
    Replace(PathBuf),
}

/// The longest packet: a plan and a passphrase.
const LONGEST: usize = 192 << 10;

/// Descriptors in one packet.
const DESCRIPTORS: usize = 2;

/// One end.
pub struct Link(OwnedFd);

impl Link {
    /// Both ends.
    ///
    /// # Errors
    /// The process has too many descriptors.
    pub fn pair() -> io::Result<(Link, Link)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Link(one), Link(other)))
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// Nobody is at the other end.
    pub fn send(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let parts = [IoSlice::new(packet)];
        sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends a word.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn say(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send(&serde_json::to_vec(word)?, descriptors)
    }

    /// Sends a word to the supervisor. When that is gone, the mount goes on
    /// without.
    pub fn tell(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) {
        if let Err(error) = self.say(word, descriptors) {
            tracing::warn!(%error, "no supervisor; this mount ends with its daemon");
        }
    }

    /// Receives a packet, waiting for one when `wait`. An empty one means that
    /// nobody is at the other end.
    ///
    /// # Errors
    /// `WouldBlock` when there is none and it is not waited for.
    pub fn receive(&self, wait: bool) -> io::Result<(Zeroizing<Vec<u8>>, Vec<OwnedFd>)> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let mut packet = Zeroizing::new(vec![0; LONGEST]);
        let mut parts = [IoSliceMut::new(&mut packet)];
        let mut flags = RecvFlags::CMSG_CLOEXEC;
        flags.set(RecvFlags::DONTWAIT, !wait);
        let received = loop {
            match recvmsg(&self.0, &mut parts, &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        packet.truncate(received.bytes);
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        Ok((packet, descriptors))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Link {
    fn from(socket: OwnedFd) -> Link {
        Link(socket)
    }
}

impl From<Link> for OwnedFd {
    fn from(link: Link) -> OwnedFd {
        link.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{fs::File, io::Read};

    #[test]
    fn words_arrive_whole_and_with_their_descriptors() {
        let (one, other) = Link::pair().unwrap();
        let none = one.receive(false).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
        let file = File::open("/dev/zero").unwrap();
        other.say(&Word::Mounted, &[file.as_fd()]).unwrap();
        other.say(&Word::Ended, &[]).unwrap();
        let (packet, mut descriptors) = one.receive(true).unwrap();
        assert!(matches!(serde_json::from_slice(&packet), Ok(Word::Mounted)));
        let mut byte = [1];
        let mut file = File::from(descriptors.pop().unwrap());
        file.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [0]);
        let (packet, descriptors) = one.receive(true).unwrap();
        assert!(matches!(serde_json::from_slice(&packet), Ok(Word::Ended)));
        assert!(descriptors.is_empty());
        drop(other);
        assert!(one.receive(true).unwrap().0.is_empty());
    }
}
