//! Published vectors for the ciphers and derivations we build on, a second
//! implementation of our own formats to compare with, and known answers for
//! those, so that no format changes unnoticed.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use aes_gcm::{Aes256Gcm, KeyInit, Nonce as GcmNonce, aead::Aead};
use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, Aad, Algorithm, Nonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use crate::{
    crypto::{
        Argon2Params, FRAME, RecordContext, Secret, Wrapped, Wraps,
        secret::cipher,
        volume_keys::tests::{Counting, fixed_keys},
    },
    host::SystemEntropy,
    ids::{ChunkId, Epoch, Ino, NameTag, VolumeId},
};

fn seal(algorithm: &'static Algorithm, key: &str, nonce: &str, aad: &str, text: &str) -> String {
    let unhex = |text: &str| hex::decode(text).unwrap();
    let mut sealed = unhex(text);
    cipher(algorithm, &unhex(key).try_into().unwrap())
        .seal_in_place_append_tag(
            Nonce::try_assume_unique_for_key(&unhex(nonce)).unwrap(),
            Aad::from(unhex(aad)),
            &mut sealed,
        )
        .unwrap();
    hex::encode(sealed)
}

/// The specification of GCM (McGrew and Viega), test cases 13, 14 and 16.
#[test]
fn aes_256_gcm_vectors() {
    let (key, nonce) = ("00".repeat(32), "00".repeat(12));
    let sealed = |text| seal(&AES_256_GCM, &key, &nonce, "", text);
    assert_eq!(sealed(""), "530f8afbc74536b9a963b4f1c4cb738b");
    assert_eq!(
        sealed(&"00".repeat(16)),
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    );
    assert_eq!(
        seal(
            &AES_256_GCM,
            "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            "cafebabefacedbaddecaf888",
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
             1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        ),
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662\
         76fc6ece0f4e1768cddf8853bb2d551b"
    );
}

/// RFC 8452, appendix C.2.
#[test]
fn aes_256_gcm_siv_vectors() {
    let key = format!("01{}", "00".repeat(31));
    let nonce = format!("03{}", "00".repeat(11));
    let sealed = |text| seal(&AES_256_GCM_SIV, &key, &nonce, "", text);
    assert_eq!(sealed(""), "07f5f4169bbf55a8400cd47ea6fd400f");
    assert_eq!(
        sealed("0100000000000000"),
        "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"
    );
}

/// RFC 5869, appendix A.3: no salt, no info, as `Secret::derive` uses it but
/// for the length of the key; and A.1 for the function as such.
#[test]
fn hkdf_sha256_vectors() {
    let mut key = [0; 42];
    Hkdf::<Sha256>::new(None, &[0x0b; 22])
        .expand(b"", &mut key)
        .unwrap();
    assert_eq!(
        hex::encode(key),
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    );
    let salt: Vec<u8> = (0..=0x0c).collect();
    let info: Vec<u8> = (0xf0..=0xf9).collect();
    Hkdf::<Sha256>::new(Some(&salt), &[0x0b; 22])
        .expand(&info, &mut key)
        .unwrap();
    assert_eq!(
        hex::encode(key),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    );
}

/// What `Secret::derive` gives, computed by the other library.
#[test]
fn derivation_agrees_with_aws_lc() {
    use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
    let secret = Secret::random(&SystemEntropy);
    let mut other = [0; 32];
    Salt::none(HKDF_SHA256)
        .extract(secret.expose())
        .expand(&[b"info"], HKDF_SHA256)
        .unwrap()
        .fill(&mut other)
        .unwrap();
    assert_eq!(*secret.derive(b"info").expose(), other);
}

/// Frames sealed by RustCrypto from the description in `docs/format.md` alone.
fn seal_by_the_book(sealing: &[u8; 32], id: &ChunkId, plain: &[u8]) -> Vec<u8> {
    let mut info = b"kiseki chunk v1".to_vec();
    info.extend_from_slice(&[1, 0]);
    info.extend_from_slice(&16_384u32.to_le_bytes());
    info.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    info.extend_from_slice(&id.0);
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, sealing)
        .expand(&info, &mut key)
        .unwrap();
    let cipher = Aes256Gcm::new_from_slice(&key).unwrap();
    let mut sealed = Vec::new();
    for (number, frame) in plain.chunks(16_384).enumerate() {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let nonce = GcmNonce::from(nonce);
        sealed.extend(cipher.encrypt(&nonce, frame).unwrap());
    }
    sealed
}

#[test]
fn frames_agree_with_aes_gcm() {
    let keys = fixed_keys(Arc::new(SystemEntropy));
    for len in [
        1,
        15,
        16,
        17,
        4096,
        FRAME - 1,
        FRAME,
        FRAME + 1,
        5 * FRAME + 77,
    ] {
        let plain: Vec<u8> = (0..len).map(|at| (at * 31 + at / 256) as u8).collect();
        let id = keys.chunk_id(&plain);
        let (info, sealed) = keys.seal_chunk(&id, &plain).unwrap();
        assert_eq!(sealed, seal_by_the_book(&[2; 32], &id, &plain), "{len}");

        let mut opened = vec![0; len];
        let theirs = seal_by_the_book(&[2; 32], &id, &plain);
        keys.open_frames(&id, info, 0, &theirs, &mut opened)
            .unwrap();
        assert_eq!(opened, plain);
    }
}

fn short(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..16])
}

#[test]
fn ids_and_tags_stay() {
    let keys = fixed_keys(Arc::new(Counting));
    assert_eq!(
        keys.chunk_id(b"kiseki").to_string(),
        "7baf5374c77f30ce5154ea108506f945e72623a008820b28ff9f1b31908e907e"
    );
    assert_eq!(
        keys.name_tag(Ino(1), b"kiseki").to_string(),
        "f89b1ecbc76a9422b81d1f44178aa2d9"
    );
    assert_eq!(
        keys.xattr_tag(Ino(1), b"kiseki").to_string(),
        "52434a3ec4937b14853bf28495988433"
    );
}

#[test]
fn sealed_chunks_stay() {
    let keys = fixed_keys(Arc::new(Counting));
    let plain: Vec<u8> = (0..40_000u32).map(|at| (at % 249) as u8).collect();
    let id = keys.chunk_id(&plain);
    let (_, sealed) = keys.seal_chunk(&id, &plain).unwrap();
    assert_eq!(short(&sealed), "e8841d86e91e392393eca69794b16b9d");
}

#[test]
fn sealed_records_stay() {
    let keys = fixed_keys(Arc::new(Counting));
    let sealed = |context| {
        let keys = fixed_keys(Arc::new(Counting));
        hex::encode(keys.seal_record(context, b"kiseki").unwrap())
    };
    let tag = NameTag([9; 16]);
    let name = RecordContext::Name { dir: Ino(1), tag };
    assert_eq!(
        sealed(name),
        "0102000000f4f5f6f7f8f9fafbfcfdfeffcd74e0f1e30e290cc2fb66cf4f43fa598c28ac12c517"
    );
    assert_eq!(
        sealed(RecordContext::Target(Ino(7))),
        "0102000000f4f5f6f7f8f9fafbfcfdfeff17dc6309c6c44b93efd9dd8b1450d679972bf93f10a0"
    );
    assert_eq!(
        sealed(RecordContext::Inline(Ino(7))),
        "0102000000f4f5f6f7f8f9fafbfcfdfeff149cb5edffb19fff7f126a8b5be0b914db57a6b5ac44"
    );
    let xattr = RecordContext::Xattr { ino: Ino(7), tag };
    assert_eq!(
        sealed(xattr),
        "0102000000f4f5f6f7f8f9fafbfcfdfeff776b3f61d4bc9fed996c0ac4dfb91b10fdb5de7bcdc2"
    );
    let back = hex::decode(sealed(name)).unwrap();
    assert_eq!(**keys.open_record(name, &back).unwrap(), *b"kiseki");
}

#[test]
fn wrapped_keys_stay() {
    let key = Secret::from_bytes(&[3; 32]);
    let wrapped = |what| {
        let wrapped = Wrapped::wrap(&Secret::from_bytes(&[4; 32]), what, &key, &Counting);
        short(serde_json::to_string(&wrapped).unwrap().as_bytes())
    };
    let (store, volume) = ([5; 16], VolumeId([6; 16]));
    assert_eq!(
        wrapped(Wraps::StoreKey { store, slot: 1 }),
        "371571708e6e35483d14654e7f16e594"
    );
    assert_eq!(
        wrapped(Wraps::MasterKey { store, volume }),
        "28a3702b985e81857e96ad8e895ae845"
    );
    let epoch = Epoch(2);
    assert_eq!(
        wrapped(Wraps::SealingKey { volume, epoch }),
        "bb664b12d723764ca9461857c9fcc35b"
    );
}

#[test]
fn passphrase_keys_stay() {
    let params = Argon2Params::generate(&Counting);
    assert_eq!(
        (params.memory_kib, params.passes, params.lanes),
        (65_536, 3, 1)
    );
    let key = params.derive("correct horse battery staple").unwrap();
    assert_eq!(short(key.expose()), "99b6ca2fd70e52b0895e280cc1510ee2");
}
