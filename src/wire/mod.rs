//! What share holders say to each other: identities, signed envelopes, messages (S11).
//!
//! Below it TLS 1.3 with both certificates; inside it every request and every response is signed once more over its raw
//! bytes, so that something that ends TLS in between can neither change a message, which would look like an attack and ban
//! the wallet, nor deny who asked. Layout: `identity` (keys, certificates), `envelope` (what is signed), `message` (what is
//! said), `tls` (pinned by key, no resumption), `link` (both ends on HTTP/2).

mod certificate;
pub mod envelope;
pub mod identity;
pub mod link;
pub mod message;
pub mod tls;
