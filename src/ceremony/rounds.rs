//! The rounds of [`Setup`] over a circle. The arithmetic runs on a thread of its own; a panic there is a fault like any other.

use super::{CeremonyError, Circle, Step};
use crate::mpc::{Fault, Inbox, Next, Post, Setup, Share};

/// Runs a creation or a refresh to its share.
pub(super) async fn run(circle: &Circle, begin: impl FnOnce() -> Result<(Setup, Post), Fault> + Send + 'static) -> Step<Box<Share>> {
    let (mut setup, mut post) = apart(begin).await?;
    loop {
        let round = setup.round();
        circle.say_bytes(round, &post.broadcast).await?;
        for (party, secret) in &post.private {
            circle.whisper(round, *party, secret).await?;
        }
        let secret = !post.private.is_empty();
        let mut inbox = Inbox::default();
        for party in circle.others() {
            inbox.broadcast.insert(party, circle.hear_bytes(round, party).await?);
            if secret {
                inbox.private.insert(party, circle.overhear(round, party).await?);
            }
        }
        match apart(move || setup.advance(&inbox)).await? {
            (Next::Post(next), Some(later)) => (setup, post) = (later, next),
            (Next::Done(share), _) => return Ok(share),
            (Next::Post(_), None) => return Err(CeremonyError::here("a round without an end")),
        }
    }
}

async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Step<T> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| CeremonyError::here("the arithmetic of a round panicked: a message it could not take"))??)
}
