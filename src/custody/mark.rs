//! A signing session that is open, as a value: whatever ends it takes it back.

use std::sync::Arc;

use super::{Custody, CustodyError};

/// The durable mark that a session is open (S3), for as long as this lives.
#[must_use = "dropping it says that the session is over"]
pub struct Mark(Arc<Custody>);

impl Mark {
    /// Blocking: the first one after a quiet time waits for the disk.
    ///
    /// # Errors
    /// [`CustodyError::Io`]: then no session may be opened.
    pub fn set(custody: &Arc<Custody>) -> Result<Self, CustodyError> {
        custody.session_opened()?;
        Ok(Self(Arc::clone(custody)))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.session_closed();
    }
}
