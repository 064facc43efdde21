//! Bytes between an agent and a seller where nothing is looked into.

use tokio::io::{AsyncRead, AsyncWrite};

/// Passes bytes both ways until both sides have ended.
pub(super) async fn relay_streams(mut agent: impl AsyncRead + AsyncWrite + Unpin, mut seller: impl AsyncRead + AsyncWrite + Unpin) {
    // Either side may close its half first; the other half goes on.
    let _ = tokio::io::copy_bidirectional(&mut agent, &mut seller).await;
}
