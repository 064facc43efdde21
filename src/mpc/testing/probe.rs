//! A peer that cheats: the selective-abort attack of security.md, on unmodified `dkls23`.
//!
//! In the OT extension the victim holds 256 secret bits Δ that are the same in every session. The cheater flips one bit in
//! row `i` of its matrix and makes the check values fit. The victim's check passes if Δᵢ is 0 and fails if it is 1: one
//! session, one bit, and a ban in every other one. With all of Δ, one honest-looking session gives the victim's key share.

use std::collections::BTreeMap;

use dkls23_secp256k1::protocols::PartyIndex;
use dkls23_secp256k1::protocols::signing::{KeepPhase1to2, SignData, TransmitPhase1to2, TransmitPhase2to3, UniqueKeep1to2};
use dkls23_secp256k1::utilities::hashes::{HashOutput, point_to_bytes, tagged_hash, tagged_hash_as_scalar};
use dkls23_secp256k1::utilities::oracle_tags::{TAG_OTE_CHI, TAG_OTE_PRG, TAG_OTE_RANDOMIZE, TAG_OTE_SESSION, TAG_SIGN_MUL_SESSION};
use dkls23_secp256k1::utilities::ot::extension::{FieldElement, PRGOutput, cut_and_transpose, field_mul};
use k256_dkls::{Scalar, Secp256k1};

use crate::{Party, Share};

/// Bytes of one element of the check's field.
const FIELD: usize = 26;

/// One session of the cheater, after its phase 1.
pub struct Cheat<'a> {
    share: &'a Share,
    data: SignData,
    unique: UniqueKeep1to2<Secp256k1>,
    kept: BTreeMap<PartyIndex, KeepPhase1to2<Secp256k1>>,
    message: TransmitPhase1to2,
    /// Id of the extension, which all its hashes go over.
    sid: HashOutput,
    /// Our pads, and our choice bits.
    pads: Vec<PRGOutput>,
    choices: PRGOutput,
}

impl<'a> Cheat<'a> {
    /// Starts a session as an honest party would, and works out what the library keeps to itself.
    pub fn begin(share: &'a Share, peer: Party, sign_id: [u8; 32], digest: [u8; 32]) -> Self {
        let counterparty = PartyIndex::new(peer.index()).unwrap();
        let data = SignData { sign_id: sign_id.to_vec(), counterparties: vec![counterparty], message_hash: digest };
        let (unique, kept, mut transmit) = share.party.sign_phase1(&data).unwrap();
        let message = transmit.remove(0);
        let sid = extension_id(share, peer, &data, &message);
        let seeds = &share.party.mul_receivers[&counterparty].ote_receiver;
        let pads: Vec<_> = (0..).zip(&seeds.seeds0).map(|(i, seed)| expand(&sid, i, seed)).collect();
        let other = expand(&sid, 0, &seeds.seeds1[0]);
        let choices = std::array::from_fn(|k| message.mul_transmit.u[0][k] ^ pads[0][k] ^ other[k]);
        Self { share, data, unique, kept, message, sid, pads, choices }
    }

    /// The honest first message.
    pub fn honest(&self) -> Vec<u8> {
        postcard::to_allocvec(&self.message).unwrap()
    }

    /// The first message that asks for bit `i` of Δ.
    pub fn probing(&self, i: usize) -> Vec<u8> {
        let mut message = self.message.clone();
        let sent = &mut message.mul_transmit;
        sent.u[i][0] ^= 1;
        let matrix = sent.u.concat();
        let chi = [b"chi1", b"chi2"].map(|name| tagged_hash(TAG_OTE_CHI, &[&self.sid, name, &matrix]));
        sent.verify_x = check_value(&self.choices, &chi);
        sent.verify_t = self.pads.iter().map(|pad| check_value(pad, &chi)).collect();
        postcard::to_allocvec(&message).unwrap()
    }

    /// With all of Δ and the victim's answer to [`Self::honest`]: the private key of the wallet.
    pub fn private_key(self, delta: &[bool; 256], answer: &[u8]) -> Scalar {
        let answer: TransmitPhase2to3<Secp256k1> = postcard::from_bytes(answer).unwrap();
        let theirs = &answer.mul_transmit;
        let delta: HashOutput = std::array::from_fn(|k| (0..8).fold(0, |byte, b| byte | u8::from(delta[8 * k + b]) << b));
        // Row 0 of the transposed pads is q or q ^ Δ, by our first choice bit.
        let row = cut_and_transpose(&self.pads).unwrap()[0];
        let shifted: HashOutput = std::array::from_fn(|k| row[k] ^ delta[k]);
        let (q0, q1) = if self.choices[0] & 1 == 0 { (row, shifted) } else { (shifted, row) };
        // Of the four extensions the second carries the key share.
        let pad = |q: &HashOutput| {
            tagged_hash_as_scalar::<Secp256k1>(TAG_OTE_RANDOMIZE, &[&self.sid, &theirs.ote_salt, &0u16.to_be_bytes(), &[1], q])
        };
        let masked = theirs.vector_of_tau[1][0] - pad(&q1) + pad(&q0);
        let their_key_share = theirs.gamma_sender[1] + masked;

        let (me, peer) = (u64::from(self.share.party.party_index.as_u8()), u64::from(self.data.counterparties[0].as_u8()));
        let lagrange = Scalar::from(peer) * (Scalar::from(peer) - Scalar::from(me)).invert().unwrap();
        drop(self.kept);
        self.share.party.poly_point * lagrange + self.unique.zeta + their_key_share
    }
}

/// The bit of the victim's Δ towards `peer`: what a probe finds.
pub fn secret_bit(victim: &Share, peer: Party, i: usize) -> bool {
    victim.party.mul_senders[&PartyIndex::new(peer.index()).unwrap()].ote_sender.correlation[i]
}

/// Is `key` the wallet's private key?
pub fn is_the_key(share: &Share, key: Scalar) -> bool {
    (k256_dkls::ProjectivePoint::GENERATOR * key).to_affine() == share.party.pk
}

fn extension_id(share: &Share, peer: Party, data: &SignData, message: &TransmitPhase1to2) -> HashOutput {
    let party = &share.party;
    let me = party.party_index.as_u8();
    let mut signers = [me, peer.index()];
    signers.sort_unstable();
    let multiplication = tagged_hash(
        TAG_SIGN_MUL_SESSION,
        &[
            &party.session_id,
            &data.sign_id,
            &party.derivation_data.chain_code,
            &point_to_bytes::<Secp256k1>(&party.pk),
            &data.message_hash,
            &signers,
            &[me, peer.index()],
        ],
    );
    tagged_hash(TAG_OTE_SESSION, &[&[b"OT Extension protocol".as_slice(), &multiplication].concat(), &message.mul_transmit.nonce])
}

/// The extension's generator: 78 bytes of a seed.
fn expand(sid: &HashOutput, row: u16, seed: &HashOutput) -> PRGOutput {
    let chunk = |n: u16| tagged_hash(TAG_OTE_PRG, &[sid, &row.to_be_bytes(), &n.to_be_bytes(), seed]);
    let bytes = [chunk(0), chunk(1), chunk(2)].concat();
    bytes[..3 * FIELD].try_into().unwrap()
}

/// The linear check over one row.
fn check_value(row: &PRGOutput, chi: &[HashOutput; 2]) -> FieldElement {
    let product = |n: usize| field_mul(&row[n * FIELD..(n + 1) * FIELD], &chi[n][..FIELD]).unwrap();
    let (a, b) = (product(0), product(1));
    std::array::from_fn(|k| a[k] ^ b[k] ^ row[2 * FIELD + k])
}
