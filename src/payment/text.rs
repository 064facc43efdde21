//! Text that a seller wrote, and the escapes through which text reaches logs, terminals, pages and chats (S19).

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
        escape_log(&self.0)
    }
}

/// At most 200 characters, none that controls, hides or turns text around.
pub fn escape_log(text: &str) -> String {
    text.chars().filter(|c| !is_unsafe(*c)).take(MAX).collect()
}

/// The same as text or an attribute's value in HTML.
pub fn escape_html(text: &str) -> String {
    let mut out = String::new();
    for c in escape_log(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The same for a chat that reads Slack's form: no mention, no link, no markup. It is for plain text there, which has no markup; the
/// entities are what is left of it.
pub fn escape_slack(text: &str) -> String {
    escape_log(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}' | '\u{2028}' | '\u{2029}' | '\u{e0000}'..='\u{e007f}')
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
    fn s19_nothing_breaks_out_of_a_page_or_a_chat() {
        for (text, html, slack) in [
            ("<!channel> pay", "&lt;!channel&gt; pay", "&lt;!channel&gt; pay"),
            ("<https://evil.example|ok>", "&lt;https://evil.example|ok&gt;", "&lt;https://evil.example|ok&gt;"),
            ("\" onclick='x' & <script>", "&quot; onclick=&#39;x&#39; &amp; &lt;script&gt;", "\" onclick='x' &amp; &lt;script&gt;"),
            ("a\u{1b}[31mb\r\nc\u{202e}\u{200b}\u{ad}", "a[31mbc", "a[31mbc"),
            ("=HYPERLINK(\"x\")", "=HYPERLINK(&quot;x&quot;)", "=HYPERLINK(\"x\")"),
        ] {
            assert_eq!((escape_html(text).as_str(), escape_slack(text).as_str()), (html, slack), "{text:?}");
        }
        assert_eq!(escape_html(&"<".repeat(500)).len(), 4 * MAX);
    }

    #[test]
    fn escaped_text_has_no_control_bidi_or_zero_width_characters() {
        let evil = SellerText::new("a\u{1b}[31m\r\nb\u{202e}c\u{200b}d\u{9b}e\u{e0041}");
        assert_eq!(evil.escape_log(), "a[31mbcde");
        assert_eq!(SellerText::new("x".repeat(500)).escape_log().len(), MAX);
        assert_eq!(format!("{evil:?}"), "SellerText(24 bytes)");
    }
}
