//! The first frame of a seller that speaks HTTP/2: whether it takes extended CONNECT (RFC 8441 §3). The HTTP library knows, and
//! does not say; a client that asks without may be cut off.

use tokio::sync::oneshot;

/// `SETTINGS_ENABLE_CONNECT_PROTOCOL`.
const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

/// Bytes of a frame's head: length, type, flags, stream.
const FRAME_HEAD: usize = 9;

/// Longest first frame that is waited for: each of the few known settings, many times over.
const LONGEST: usize = 1024;

/// Collects the first frame.
pub(in super::super) struct Settings {
    seen: Vec<u8>,
    tell: Option<oneshot::Sender<bool>>,
}

impl Settings {
    /// With whoever waits for the answer. An error there means that the connection ended first.
    pub(in super::super) fn new() -> (Self, oneshot::Receiver<bool>) {
        let (tell, told) = oneshot::channel();
        (Self { seen: Vec::new(), tell: Some(tell) }, told)
    }

    /// Adds what arrived; true once the answer was given.
    pub(super) fn is_told(&mut self, bytes: &[u8]) -> bool {
        let room = LONGEST - self.seen.len();
        self.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some(takes) = takes_connect(&self.seen).or_else(|| (self.seen.len() == LONGEST).then_some(false)) else { return false };
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(takes);
        }
        true
    }
}

/// What the first frame says, once it is whole.
pub(in super::super) fn takes_connect(seen: &[u8]) -> Option<bool> {
    let (head, rest) = seen.split_at_checked(FRAME_HEAD)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    if head[3] != 4 || head[4] & 1 != 0 {
        // No settings, or the confirmation of ours: the library ends the connection.
        return Some(false);
    }
    let settings = rest.get(..length)?.chunks_exact(6);
    let mut last = false;
    for setting in settings {
        if u16::from_be_bytes([setting[0], setting[1]]) == ENABLE_CONNECT_PROTOCOL {
            last = setting[2..] == [0, 0, 0, 1];
        }
    }
    Some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_says_whether_extended_connect_is_taken() {
        let frame = |kind: u8, flags: u8, settings: &[u8]| {
            let mut frame = vec![0, 0, u8::try_from(settings.len()).unwrap_or(0), kind, flags, 0, 0, 0, 0];
            frame.extend(settings);
            frame
        };
        let (on, off, other) = ([0, 8, 0, 0, 0, 1], [0, 8, 0, 0, 0, 0], [0, 3, 0, 0, 0, 100]);
        for (seen, told) in [
            (frame(4, 0, &[]), Some(false)),
            (frame(4, 0, &[other, on].concat()), Some(true)),
            (frame(4, 0, &[on, off].concat()), Some(false)),
            (frame(4, 1, &on), Some(false)),
            (frame(0, 0, &on), Some(false)),
            (frame(4, 0, &on)[..14].to_vec(), None),
            (vec![0; 8], None),
        ] {
            assert_eq!(takes_connect(&seen), told, "{seen:?}");
            let (mut settings, mut waits) = Settings::new();
            for byte in &seen {
                settings.is_told(&[*byte]);
            }
            assert_eq!(waits.try_recv().ok(), told, "{seen:?}, byte by byte");
        }
        let (mut settings, mut waits) = Settings::new();
        assert!(settings.is_told(&[[0, 255, 255, 4, 0, 0, 0, 0, 0].as_slice(), &[0; 2000]].concat()));
        assert_eq!(waits.try_recv(), Ok(false), "nobody waits for 64 KiB of settings");
    }
}
