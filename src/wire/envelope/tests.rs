#![allow(clippy::unwrap_used)]
use super::*;
use crate::wire::message::path;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const ID: [u8; 16] = [7; 16];

struct Two {
    one: Identity,
    two: Identity,
}

impl Two {
    fn new() -> Self {
        Self { one: Identity::generate().unwrap(), two: Identity::generate().unwrap() }
    }

    fn request(&self, payload: &[u8]) -> (Vec<u8>, [u8; 32]) {
        request(&self.one, self.two.fingerprint(), path::BEGIN, 3, ID, NOW, payload)
    }

    fn open(&self, bytes: &[u8]) -> Result<(Opened, [u8; 32]), EnvelopeError> {
        open_request(bytes, self.one.public(), self.two.fingerprint(), path::BEGIN, NOW)
    }

    fn header(&self) -> Header {
        self.open(&self.request(b"x").0).unwrap().0.header
    }

    fn open_response(&self, bytes: &[u8], hash: [u8; 32]) -> Result<Opened, EnvelopeError> {
        open_response(bytes, self.two.public(), self.one.fingerprint(), ID, hash)
    }
}

#[test]
fn a_request_and_its_response_go_round() {
    let pair = Two::new();
    let (bytes, hash) = pair.request(b"hello");
    let (opened, seen) = pair.open(&bytes).unwrap();
    assert_eq!((opened.payload.as_slice(), opened.header.id, opened.header.epoch, seen), (&b"hello"[..], ID, 3, hash));
    let answer = response(&pair.two, &opened.header, seen, NOW, b"there");
    let opened = pair.open_response(&answer, hash).unwrap();
    assert_eq!((opened.payload.as_slice(), opened.header.request), (&b"there"[..], Some(hash)));
}

#[test]
fn every_changed_byte_of_an_envelope_is_noticed() {
    let pair = Two::new();
    let (bytes, _) = pair.request(b"small");
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert!(pair.open(&changed).is_err(), "byte {at} of {} xor {flip:#x}", bytes.len());
        }
        assert!(pair.open(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(pair.open(&[&bytes[..], &[0]].concat()).unwrap_err(), EnvelopeError::Malformed);
}

#[test]
fn every_changed_byte_of_a_response_is_noticed() {
    let pair = Two::new();
    let (bytes, hash) = pair.request(b"small");
    let answer = response(&pair.two, &pair.open(&bytes).unwrap().0.header, hash, NOW, b"yes");
    for at in 0..answer.len() {
        let mut changed = answer.clone();
        changed[at] ^= 1;
        assert!(pair.open_response(&changed, hash).is_err(), "byte {at} of {}", answer.len());
    }
}

#[test]
fn another_signer_another_audience_and_another_path_are_refused() {
    let pair = Two::new();
    let third = Identity::generate().unwrap();
    let (bytes, _) = pair.request(b"x");
    let as_third = open_request(&bytes, third.public(), pair.two.fingerprint(), path::BEGIN, NOW);
    assert_eq!(as_third.unwrap_err(), EnvelopeError::Sender);
    let at_third = open_request(&bytes, pair.one.public(), third.fingerprint(), path::BEGIN, NOW);
    assert_eq!(at_third.unwrap_err(), EnvelopeError::Misdirected);
    let elsewhere = open_request(&bytes, pair.one.public(), pair.two.fingerprint(), path::FINISH, NOW);
    assert_eq!(elsewhere.unwrap_err(), EnvelopeError::Misdirected);
    // The third party says it is the first: the name fits, the signature does not.
    let forged = seal(&third, REQUEST, &pair.header(), b"x");
    assert_eq!(pair.open(&forged).unwrap_err(), EnvelopeError::Signature);
}

#[test]
fn a_payload_of_another_envelope_is_refused() {
    let pair = Two::new();
    let header = postcard::to_stdvec(&pair.header()).unwrap();
    let signature = pair.one.sign(REQUEST, &header);
    let other = postcard::to_stdvec(&Envelope { header: Raw(&header), payload: Raw(b"y"), signature: Raw(&signature) }).unwrap();
    assert_eq!(pair.open(&other).unwrap_err(), EnvelopeError::Signature);
}

#[test]
fn the_time_window_has_two_ends_and_survives_absurd_clocks() {
    let pair = Two::new();
    let cases = [
        (0, Ok(())),
        (WINDOW_MS, Ok(())),
        (-WINDOW_MS, Ok(())),
        (WINDOW_MS + 1, Err(EnvelopeError::Time)),
        (-WINDOW_MS - 1, Err(EnvelopeError::Time)),
        (i64::MAX, Err(EnvelopeError::Time)),
        (i64::MIN, Err(EnvelopeError::Time)),
    ];
    for (skew, expected) in cases {
        let header = Header { at: NOW.plus_millis(skew), ..pair.header() };
        assert_eq!(pair.open(&seal(&pair.one, REQUEST, &header, b"x")).map(drop), expected, "{skew}");
    }
}

#[test]
fn another_version_and_an_oversized_body_are_not_envelopes() {
    let pair = Two::new();
    let header = Header { version: VERSION + 1, ..pair.header() };
    assert_eq!(pair.open(&seal(&pair.one, REQUEST, &header, b"x")).unwrap_err(), EnvelopeError::Malformed);
    let (large, _) = pair.request(&vec![0; MAX_BODY]);
    assert_eq!(pair.open(&large).unwrap_err(), EnvelopeError::Malformed);
    let (fits, _) = pair.request(&vec![0; MAX_BODY - 1024]);
    assert!(pair.open(&fits).is_ok());
    assert_eq!(pair.open(&[]).unwrap_err(), EnvelopeError::Malformed);
    // A length that points far behind the end.
    assert_eq!(pair.open(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).unwrap_err(), EnvelopeError::Malformed);
}

#[test]
fn a_response_fits_its_own_request_only() {
    let pair = Two::new();
    let (first, hash) = pair.request(b"one");
    let (_, other) = pair.request(b"two");
    let header = pair.open(&first).unwrap().0.header;
    let answer = response(&pair.two, &header, hash, NOW, b"yes");
    assert_eq!(pair.open_response(&answer, other).unwrap_err(), EnvelopeError::Misdirected);
    let misnumbered = response(&pair.two, &Header { id: [8; 16], ..header.clone() }, hash, NOW, b"yes");
    assert_eq!(pair.open_response(&misnumbered, hash).unwrap_err(), EnvelopeError::Misdirected);
    let forged = response(&pair.one, &header, hash, NOW, b"yes");
    assert_eq!(pair.open_response(&forged, hash).unwrap_err(), EnvelopeError::Sender);
}

#[test]
fn a_request_is_no_response_and_a_response_no_request() {
    let pair = Two::new();
    let (bytes, hash) = pair.request(b"x");
    let reflected = open_response(&bytes, pair.one.public(), pair.two.fingerprint(), ID, hash);
    assert_eq!(reflected.unwrap_err(), EnvelopeError::Signature);
    let header = Header { request: Some(hash), ..pair.header() };
    assert_eq!(pair.open(&seal(&pair.one, RESPONSE, &header, b"x")).unwrap_err(), EnvelopeError::Signature);
    assert_eq!(pair.open(&seal(&pair.one, REQUEST, &header, b"x")).unwrap_err(), EnvelopeError::Misdirected);
}
