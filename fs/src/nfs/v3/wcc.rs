//! Attributes before and after a change (RFC 1813, section 2.3.8).

use kiseki_core::{engine::Attr, ids::Ino};
use nfs3_types::nfs3::{Nfs3Option, post_op_attr, wcc_data};

use super::{Request, attributes};
use crate::nfs::{fail::Fail, order::Mark};

/// An inode that is about to be changed, as it is before.
pub(super) struct Before {
    ino: Ino,
    mark: Mark,
    pub attr: Attr,
}

impl Request<'_> {
    /// Looks at an inode whose turn it is.
    pub(super) async fn before(&self, ino: Ino) -> Result<Before, Fail> {
        let mark = self.nfs.order.mark(ino);
        let attr = self.nfs.linked(ino).await?;
        Ok(Before { ino, mark, attr })
    }

    /// What to say of an inode after it was, or was not, changed. Still under
    /// its turn.
    pub(super) async fn wcc(&self, before: &Before) -> wcc_data {
        let after = self.nfs.attributes(before.ino).await.ok();
        let alone = self.nfs.order.mark(before.ino) == before.mark;
        wcc_data {
            before: match alone {
                true => Nfs3Option::Some(attributes::before(&before.attr)),
                false => Nfs3Option::None,
            },
            after: self.known(after.as_ref()),
        }
    }

    /// Attributes in an answer.
    pub(super) fn known(&self, attr: Option<&Attr>) -> post_op_attr {
        attributes::known(self.nfs.handles.volume(), attr)
    }

    /// The same, of an inode as it is now.
    pub(super) async fn known_now(&self, ino: Ino) -> post_op_attr {
        self.known(self.nfs.attributes(ino).await.ok().as_ref())
    }
}
