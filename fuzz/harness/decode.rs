//! Envelopes and messages from anybody: the fuzz target `envelope` and a test of the crate run this same code.
//!
//! The first byte chooses: raw bytes as they come, or a header and payload of ours around them that are correctly signed, since
//! no fuzzer finds a signature. Rules: nothing panics; an envelope is opened only if key, audience, path, time and hash are
//! right; what is decoded is the same after encoding it again; and an offer or grant without a signature proves nothing.

use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tollpass::cosigner::offer;
use tollpass::payment::Timestamp;
use tollpass::wire::envelope::{Header, WINDOW_MS, open_request, open_response};
use tollpass::wire::identity::Identity;
use tollpass::wire::message::{
    Answer, Begin, Enroll, Enrolled, Finish, Finished, Hello, Intent, Kept, MAX_BODY, Noted, Opened, Prepare, Prepared, Present, Settle,
    SignedIntent, VERSION, Welcome, path,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn keys() -> &'static [Identity; 2] {
    static KEYS: OnceLock<[Identity; 2]> = OnceLock::new();
    KEYS.get_or_init(|| [Identity::generate().unwrap(), Identity::generate().unwrap()])
}

/// Runs one input.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => raw(data),
        1 => signed(data),
        2 => around(data),
        _ => messages(data),
    }
}

/// Nobody signed these.
fn raw(data: &[u8]) {
    let [me, them] = keys();
    assert!(open_request(data, them.public(), me.fingerprint(), path::BEGIN, NOW).is_err());
    assert!(open_response(data, them.public(), me.fingerprint(), [0; 16], [0; 32]).is_err());
}

/// Any header, correctly signed by the right key.
fn signed(data: &[u8]) {
    let [me, them] = keys();
    let cut = data.first().map_or(0, |n| usize::from(*n)).min(data.len());
    let (header, payload) = data.split_at(cut);
    let signature = them.sign("tollpass/request/1", header);
    let envelope = postcard::to_allocvec(&(header, payload, &signature[..])).unwrap();
    if let Ok((opened, hash)) = open_request(&envelope, them.public(), me.fingerprint(), path::BEGIN, NOW) {
        is_right(&opened.header, &opened.payload);
        assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(&envelope)));
    }
}

/// A header of ours with fields from the input: some of these must be opened, so that the rule is not empty.
fn around(data: &[u8]) {
    let [me, them] = keys();
    let mut bytes = data.iter().copied();
    let mut next = || bytes.next().unwrap_or(0);
    let (wrong, shift) = (next(), i64::from(i32::from_le_bytes([next(), next(), next(), next()])));
    let payload: Vec<u8> = bytes.collect();
    let header = Header {
        version: if wrong & 1 == 0 { VERSION } else { wrong },
        path: if wrong & 2 == 0 { path::BEGIN.into() } else { String::from_utf8_lossy(&payload).into_owned() },
        sender: if wrong & 4 == 0 { them.fingerprint() } else { me.fingerprint() },
        audience: if wrong & 8 == 0 { me.fingerprint() } else { them.fingerprint() },
        epoch: u32::from(wrong),
        id: [wrong; 16],
        at: NOW.plus_millis(if wrong & 16 == 0 { shift } else { shift << 31 }),
        payload: if wrong & 32 == 0 { Sha256::digest(&payload).into() } else { [wrong; 32] },
        request: (wrong & 64 != 0).then_some([0; 32]),
    };
    let text = postcard::to_allocvec(&header).unwrap();
    let context = if wrong & 128 == 0 { "tollpass/request/1" } else { "tollpass/response/1" };
    let signature = them.sign(context, &text);
    let envelope = postcard::to_allocvec(&(&text[..], &payload[..], &signature[..])).unwrap();
    let opened = open_request(&envelope, them.public(), me.fingerprint(), path::BEGIN, NOW);
    let right = wrong == 0 && shift.abs() <= WINDOW_MS && envelope.len() <= MAX_BODY;
    assert!(opened.is_ok() || !right, "{:?}", opened.err());
    if let Ok((opened, _)) = opened {
        assert!(context.contains("request"));
        is_right(&opened.header, &opened.payload);
    }
}

fn is_right(header: &Header, payload: &[u8]) {
    let [me, them] = keys();
    assert_eq!(
        (header.version, header.path.as_str(), header.sender, header.audience),
        (VERSION, path::BEGIN, them.fingerprint(), me.fingerprint())
    );
    assert!(header.request.is_none() && header.at.millis().abs_diff(NOW.millis()) <= WINDOW_MS.unsigned_abs());
    assert_eq!(header.payload, <[u8; 32]>::from(Sha256::digest(payload)));
}

fn messages(data: &[u8]) {
    same::<Hello>(data);
    same::<Begin>(data);
    same::<Finish>(data);
    same::<Prepare>(data);
    same::<Prepared>(data);
    same::<Present>(data);
    same::<Settle>(data);
    same::<Enroll>(data);
    same::<SignedIntent>(data);
    same::<Intent>(data);
    same::<Answer<Welcome>>(data);
    same::<Answer<Opened>>(data);
    same::<Answer<Finished>>(data);
    same::<Answer<Kept>>(data);
    same::<Answer<Noted>>(data);
    same::<Answer<Enrolled>>(data);
    let text = String::from_utf8_lossy(data);
    assert!(offer::verify(&text, &[], NOW).is_err(), "an offer that no key signed");
}

fn same<T: Serialize + DeserializeOwned + PartialEq>(data: &[u8]) {
    let Ok(value) = postcard::from_bytes::<T>(data) else { return };
    let encoded = postcard::to_allocvec(&value).unwrap();
    assert!(encoded.len() <= data.len(), "a message grew");
    assert!(postcard::from_bytes::<T>(&encoded).is_ok_and(|again| again == value));
}
