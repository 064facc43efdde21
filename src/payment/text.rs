//! Text that a seller wrote. It reaches models, terminals and logs only through an escape (S19).

/// Seller-written text. Deliberately without `Display` and with a redacted `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SellerText(String);

/// Longest piece of seller text that leaves us, in characters.
const MAX: usize = 200;

impl SellerText {
    /// Takes ownership of untrusted text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For comparing with known machine codes; never for output.
    pub fn is(&self, code: &str) -> bool {
        self.0 == code
    }

    /// True if the text contains this machine code; never for output.
    pub fn mentions(&self, code: &str) -> bool {
        self.0.contains(code)
    }

    /// At most 200 characters with C0, C1, bidirectional and zero-width characters removed: safe in a log line.
    pub fn escape_log(&self) -> String {
        self.0.chars().filter(|c| !is_unsafe(*c)).take(MAX).collect()
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}' | '\u{2028}' | '\u{2029}' | '\u{e0000}'..='\u{e007f}')
}

impl std::fmt::Debug for SellerText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SellerText({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_has_no_control_bidi_or_zero_width_characters() {
        let evil = SellerText::new("a\u{1b}[31m\r\nb\u{202e}c\u{200b}d\u{9b}e\u{e0041}");
        assert_eq!(evil.escape_log(), "a[31mbcde");
        assert_eq!(SellerText::new("x".repeat(500)).escape_log().len(), MAX);
        assert_eq!(format!("{evil:?}"), "SellerText(24 bytes)");
    }
}
