//! The kinds of requests of the kernel.

use crate::stats::operations;

operations! {
    /// A kind of request.
    pub enum Op of "fuse" {
        Lookup "lookup", Forget "forget", Getattr "getattr", Setattr "setattr",
        Readlink "readlink", Mknod "mknod", Mkdir "mkdir", Symlink "symlink",
        Unlink "unlink", Rmdir "rmdir", Rename "rename", Link "link",
        Create "create", Open "open", Read "read", Write "write",
        Fsync "fsync", Release "release", Opendir "opendir", Readdir "readdir",
        Readdirplus "readdirplus", Releasedir "releasedir", Fsyncdir "fsyncdir",
        Statfs "statfs", Getxattr "getxattr", Setxattr "setxattr",
        Listxattr "listxattr", Removexattr "removexattr", Fallocate "fallocate",
        Lseek "lseek", CopyFileRange "copy_file_range",
    }
}
