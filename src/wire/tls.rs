//! TLS 1.3 only, both certificates, trusted by key and not by name; no resumption, no early data (S11).
