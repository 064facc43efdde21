//! Messages changed on the way: never a panic, never a signature.

use proptest::prelude::*;

use super::*;
use crate::Partial;
use crate::testing::deal_shared;

/// What happens to one message.
#[derive(Clone, Debug)]
enum Damage {
    /// Near the front are parties, bindings, lengths, commitments.
    Front(usize, u8),
    Anywhere(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Grow(u8),
    Fill(prop::sample::Index, usize, u8),
    /// Another message of the same session in its place.
    Other,
}

impl Damage {
    /// The message as it arrives.
    fn of(&self, message: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = message.to_vec();
        match self {
            Self::Front(at, bit) => bytes[at % message.len()] ^= 1 << bit,
            Self::Anywhere(at, bit) => bytes[at.index(message.len())] ^= 1 << bit,
            Self::Cut(at) => bytes.truncate(at.index(message.len())),
            Self::Grow(byte) => bytes.push(*byte),
            Self::Fill(at, len, byte) => {
                let from = at.index(message.len());
                let to = (from + len).min(message.len());
                bytes[from..to].fill(*byte);
            }
            Self::Other => bytes = other.to_vec(),
        }
        bytes
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        3 => (0..256usize, 0..8u8).prop_map(|(at, bit)| Damage::Front(at, bit)),
        3 => (any::<prop::sample::Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Anywhere(at, bit)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => any::<u8>().prop_map(Damage::Grow),
        1 => (any::<prop::sample::Index>(), 1..64usize, any::<u8>()).prop_map(|(at, len, byte)| Damage::Fill(at, len, byte)),
        1 => Just(Damage::Other),
    ]
}

/// A session in which message `which` of five (a1, b1, b2, a2, partial) is damaged; `None` if the damage changed nothing.
fn session(shares: &[Arc<Share>; 3], which: usize, damage: &Damage) -> Option<Result<[u8; 65], Abort>> {
    let [a, b, _] = shares;
    let (id, digest) = (rand::random(), random_digest());
    let mut changed = false;
    let mut arrive = |at: usize, message: &[u8], other: &[u8]| {
        let bytes = if at == which { damage.of(message, other) } else { message.to_vec() };
        changed |= bytes != message;
        bytes
    };
    let result = (|| {
        let (begun, a1) = Begun::new(a.clone(), Party::Cosigner, id, digest)?;
        let a1 = arrive(0, &a1, b"");
        let (joined, b1, b2) = Joined::new(b.clone(), Party::Sidecar, id, digest, &a1)?;
        let (b1, b2) = (arrive(1, &b1, &b2), arrive(2, &b2, &a1));
        let (completing, a2) = begun.advance(&b1, &b2)?;
        let partial = joined.finish(&arrive(3, &a2, &b2))?;
        completing.complete(&Partial::from_bytes(arrive(4, partial.as_bytes(), &a2)))
    })();
    changed.then_some(result)
}

proptest! {
    // A case is a whole session: fewer of them, and as many more as `PROPTEST_CASES` asks for.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_message_never_gives_a_signature(which in 0..5usize, damage in damage()) {
        static SHARES: std::sync::OnceLock<[Arc<Share>; 3]> = std::sync::OnceLock::new();
        let shares = SHARES.get_or_init(|| deal_shared("w1"));
        // Every error is one of the three kinds by type; what must not be is a result.
        if let Some(result) = session(shares, which, &damage) {
            prop_assert!(result.is_err(), "message {which} with {damage:?} was signed");
        }
    }
}

#[test]
fn a_change_in_the_extension_is_a_ban_and_one_in_the_binding_is_not() {
    let shares = deal_shared("w1");
    // Two bytes of parties, then the binding and the commitment, then nonce and matrix of the extension.
    let cases = [(2, "recoverable"), (40, "recoverable"), (200, "ban"), (15_000, "ban")];
    for (at, want) in cases {
        let result = session(&shares, 0, &Damage::Front(at, 0)).unwrap();
        let got = match result {
            Err(Abort::Ban) => "ban",
            Err(Abort::Recoverable(_)) => "recoverable",
            Err(Abort::Malformed(_)) => "malformed",
            Ok(_) => "signed",
        };
        assert_eq!(got, want, "byte {at}");
    }
}

proptest! {
    #[test]
    fn noise_is_malformed_or_refused(noise in prop::collection::vec(any::<u8>(), 0..4096)) {
        static SHARES: std::sync::OnceLock<[Arc<Share>; 3]> = std::sync::OnceLock::new();
        let [_, b, _] = SHARES.get_or_init(|| deal_shared("w1"));
        let refused = Joined::new(b.clone(), Party::Sidecar, [1; 32], B256::ZERO, &noise).err();
        prop_assert!(matches!(refused, Some(Abort::Malformed(_))), "{refused:?}");
    }
}
