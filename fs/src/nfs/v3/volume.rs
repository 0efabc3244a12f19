//! FSSTAT, FSINFO, PATHCONF (RFC 1813, sections 3.3.18 to 20).

use kiseki_core::engine::{NAME_MAX, SIZE_MAX};
use nfs3_types::nfs3::{
    FSF3_CANSETTIME, FSF3_HOMOGENEOUS, FSF3_LINK, FSF3_SYMLINK, FSINFO3resfail, FSINFO3resok,
    FSSTAT3resfail, FSSTAT3resok, PATHCONF3resfail, PATHCONF3resok, nfstime3,
};

use super::{Request, Results, arguments::Object, status::status};
use crate::nfs::TRANSFER_MAX;

/// What clients do best to read of a directory at a time.
const LISTING: u32 = 64 << 10;

impl Request<'_> {
    pub(super) async fn fsstat(self, a: Object) -> Results<FSSTAT3resok, FSSTAT3resfail> {
        let asked = async {
            let (_, attr) = self.find(&a.object.0).await?;
            Ok((attr, self.nfs.volume.statfs().await?))
        };
        match asked.await {
            Ok((attr, room)) => {
                let bytes = |blocks: u64| blocks.saturating_mul(u64::from(room.block_size));
                Results::Ok(FSSTAT3resok {
                    obj_attributes: self.known(Some(&attr)),
                    tbytes: bytes(room.blocks),
                    fbytes: bytes(room.blocks_free),
                    abytes: bytes(room.blocks_available),
                    tfiles: room.files,
                    ffiles: room.files_free,
                    afiles: room.files_free,
                    invarsec: 0,
                })
            }
            Err(fail) => Results::Err((status(&fail), FSSTAT3resfail::default())),
        }
    }

    pub(super) async fn fsinfo(self, a: Object) -> Results<FSINFO3resok, FSINFO3resfail> {
        match self.find(&a.object.0).await {
            Ok((_, attr)) => Results::Ok(FSINFO3resok {
                obj_attributes: self.known(Some(&attr)),
                rtmax: TRANSFER_MAX,
                rtpref: TRANSFER_MAX,
                rtmult: 4096,
                wtmax: TRANSFER_MAX,
                wtpref: TRANSFER_MAX,
                wtmult: 4096,
                dtpref: LISTING,
                maxfilesize: SIZE_MAX,
                time_delta: nfstime3 {
                    seconds: 0,
                    nseconds: 1,
                },
                properties: FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS | FSF3_CANSETTIME,
            }),
            Err(fail) => Results::Err((status(&fail), FSINFO3resfail::default())),
        }
    }

    pub(super) async fn pathconf(self, a: Object) -> Results<PATHCONF3resok, PATHCONF3resfail> {
        match self.find(&a.object.0).await {
            Ok((_, attr)) => Results::Ok(PATHCONF3resok {
                obj_attributes: self.known(Some(&attr)),
                linkmax: u32::MAX,
                // Below 2^32 by far.
                name_max: NAME_MAX as u32,
                no_trunc: true,
                chown_restricted: true,
                case_insensitive: false,
                case_preserving: true,
            }),
            Err(fail) => Results::Err((status(&fail), PATHCONF3resfail::default())),
        }
    }
}
