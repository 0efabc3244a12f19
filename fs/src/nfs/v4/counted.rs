//! What is counted of version 4: requests, and what they are made of.

use super::xdr::number;
use crate::stats::Operation;

/// A whole COMPOUND, or one operation of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op(usize);

impl Op {
    /// A request with all its operations.
    pub const COMPOUND: Op = Op(0);
    /// READ.
    pub const READ: Op = Op::of(number::READ);
    /// WRITE.
    pub const WRITE: Op = Op::of(number::WRITE);

    /// An operation by its number in RFC 8881, 7862 or 8276.
    ///
    /// # Panics
    /// The number is none of theirs, from 3 to 75.
    pub const fn of(operation: u32) -> Op {
        Op((operation - number::FIRST) as usize + 1)
    }
}

impl Operation for Op {
    const FRONT: &'static str = "nfs4";
    const NAMES: &'static [&'static str] = &[
        "compound",
        "access",
        "close",
        "commit",
        "create",
        "delegpurge",
        "delegreturn",
        "getattr",
        "getfh",
        "link",
        "lock",
        "lockt",
        "locku",
        "lookup",
        "lookupp",
        "nverify",
        "open",
        "openattr",
        "open_confirm",
        "open_downgrade",
        "putfh",
        "putpubfh",
        "putrootfh",
        "read",
        "readdir",
        "readlink",
        "remove",
        "rename",
        "renew",
        "restorefh",
        "savefh",
        "secinfo",
        "setattr",
        "setclientid",
        "setclientid_confirm",
        "verify",
        "write",
        "release_lockowner",
        "backchannel_ctl",
        "bind_conn_to_session",
        "exchange_id",
        "create_session",
        "destroy_session",
        "free_stateid",
        "get_dir_delegation",
        "getdeviceinfo",
        "getdevicelist",
        "layoutcommit",
        "layoutget",
        "layoutreturn",
        "secinfo_no_name",
        "sequence",
        "set_ssv",
        "test_stateid",
        "want_delegation",
        "destroy_clientid",
        "reclaim_complete",
        "allocate",
        "copy",
        "copy_notify",
        "deallocate",
        "io_advise",
        "layouterror",
        "layoutstats",
        "offload_cancel",
        "offload_status",
        "read_plus",
        "seek",
        "write_same",
        "clone",
        "getxattr",
        "setxattr",
        "listxattrs",
        "removexattr",
    ];

    fn index(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(operation: u32) -> &'static str {
        Op::NAMES[Op::of(operation).index()]
    }

    #[test]
    fn names_are_those_of_the_numbers() {
        assert_eq!(name(number::FIRST), "access");
        assert_eq!(name(number::READ), "read");
        assert_eq!(name(number::WRITE), "write");
        assert_eq!(name(number::EXCHANGE_ID), "exchange_id");
        assert_eq!(name(number::SEQUENCE), "sequence");
        assert_eq!(name(number::LAST), "reclaim_complete");
        assert_eq!(name(number::LAST_OF_2), "removexattr");
        assert_eq!(Op::NAMES.len(), Op::of(number::LAST_OF_2).index() + 1);
    }
}
