//! Ids of requests that were seen, kept for twice the time window in which they could be sent again (S11).

use std::collections::HashMap;

use rusqlite::Connection;

use crate::payment::Timestamp;
use crate::wire::envelope::WINDOW_MS;

/// Most ids remembered. At a thousand requests per second the window holds an eighth of it; past that nothing is admitted.
const MAX: usize = 1 << 20;

/// Sender and id.
pub(super) type Name = [u8; 48];

/// The ids in memory; the store's table is for restarts.
#[derive(Default)]
pub(super) struct Replays {
    seen: HashMap<Name, Timestamp>,
    swept: Timestamp,
}

impl Replays {
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut rows = conn.prepare("SELECT id, until FROM replays")?;
        let seen = rows.query_map([], |r| Ok((r.get::<_, Name>(0)?, Timestamp::from_millis(r.get(1)?))))?.collect::<Result<_, _>>()?;
        Ok(Self { seen, swept: Timestamp::from_millis(0) })
    }

    /// `None` if it was seen; else what to remember until when, and whether old ones may go.
    pub(super) fn admit(&mut self, sender: [u8; 32], id: [u8; 16], now: Timestamp) -> Option<(Name, Timestamp, bool)> {
        let mut name = [0; 48];
        name[..32].copy_from_slice(&sender);
        name[32..].copy_from_slice(&id);
        let sweep = now.millis() - self.swept.millis() >= WINDOW_MS;
        if sweep {
            self.seen.retain(|_, until| *until >= now);
            self.swept = now;
        }
        // An envelope may be a window ahead of our clock and stays acceptable for another window after that.
        let until = now.plus_millis(3 * WINDOW_MS);
        if self.seen.len() >= MAX || self.seen.contains_key(&name) {
            return None;
        }
        self.seen.insert(name, until);
        Some((name, until, sweep))
    }
}
