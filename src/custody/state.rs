//! What must survive a stop, in one small file that is replaced atomically.

use super::{CustodyError, Frozen};
use crate::mpc::Party;
use crate::payment::Timestamp;

pub(super) struct StateFile {}

impl StateFile {
    pub(super) fn frozen(&self) -> Option<Frozen> {
        todo!()
    }
    pub(super) fn ban(&self, peer: Party, at: Timestamp) -> Result<(), CustodyError> {
        let _ = (peer, at);
        todo!()
    }
    pub(super) fn session_opened(&self) -> Result<(), CustodyError> {
        todo!()
    }
    pub(super) fn session_closed(&self) {}
    pub(super) fn turn(&self) -> Result<([u8; 16], [u8; 16]), CustodyError> {
        todo!()
    }
    pub(super) fn turned(&self) -> Result<bool, CustodyError> {
        todo!()
    }
    pub(super) fn peer_head(&self, head: u64) -> Result<(), u64> {
        let _ = head;
        todo!()
    }
}
