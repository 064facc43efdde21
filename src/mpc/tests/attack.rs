//! The selective-abort attack of security.md, without a victim that remembers: what one durable ban is for.
