//! A chunked body (RFC 9112 §7.1), byte by byte where it is not data: every line ends with CRLF, extensions and trailers are
//! bounded.

use super::MAX_FIELDS;
use super::head::{is_text_byte, is_token_byte};

/// Bytes of all chunk extensions of a body, and of its trailer part.
const MAX_EXTRA: u16 = 8 * 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Size,
    Pad,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer line, or the end.
    Line,
    Name,
    Value,
    LineLf,
    EndLf,
}

/// Where a chunked body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunked {
    step: Step,
    size: u64,
    digits: u8,
    extra: u16,
    fields: u16,
}

/// How far one look got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// All of it belongs to the body.
    More,
    /// The body ends here.
    End(usize),
    /// This byte is wrong.
    Fault(usize),
}

impl Chunked {
    /// `padded`: blanks behind a size are borne with, as old servers write them.
    pub(super) fn scan(&mut self, data: &[u8], padded: bool) -> Piece {
        let mut at = 0;
        while at < data.len() {
            if self.step == Step::Data {
                let n = (data.len() - at).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                (at, self.size) = (at + n, self.size - n as u64);
                if self.size == 0 {
                    self.step = Step::DataCr;
                }
                continue;
            }
            let last = self.step == Step::EndLf;
            match self.next(data[at], padded) {
                Some(step) => self.step = step,
                None => return Piece::Fault(at),
            }
            at += 1;
            if last {
                return Piece::End(at);
            }
        }
        Piece::More
    }

    fn next(&mut self, byte: u8, padded: bool) -> Option<Step> {
        Some(match (self.step, byte) {
            (Step::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte)?,
            (Step::Size, _) if self.digits == 0 => return None,
            (Step::Size | Step::Pad, b' ' | b'\t') if padded => self.more(Step::Pad)?,
            (Step::Size | Step::Pad, b';') => self.more(Step::Extension)?,
            (Step::Size | Step::Pad | Step::Extension, b'\r') => Step::SizeLf,
            (Step::Extension, _) if is_text_byte(byte) => self.more(Step::Extension)?,
            (Step::SizeLf, b'\n') => self.begin(),
            (Step::DataCr, b'\r') => Step::DataLf,
            (Step::DataLf, b'\n') => Step::Size,
            (Step::Line, b'\r') => Step::EndLf,
            (Step::Line, _) if is_token_byte(byte) => self.field()?,
            (Step::Name, b':') => self.more(Step::Value)?,
            (Step::Name, _) if is_token_byte(byte) => self.more(Step::Name)?,
            (Step::Value, b'\r') => Step::LineLf,
            (Step::Value, _) if is_text_byte(byte) => self.more(Step::Value)?,
            (Step::LineLf, b'\n') => Step::Line,
            (Step::EndLf, b'\n') => Step::EndLf,
            _ => return None,
        })
    }

    fn digit(&mut self, byte: u8) -> Option<Step> {
        if self.digits == 16 {
            return None;
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(char::from(byte).to_digit(16)?);
        Some(Step::Size)
    }

    /// The line with the size is over.
    const fn begin(&mut self) -> Step {
        self.digits = 0;
        if self.size > 0 {
            return Step::Data;
        }
        self.extra = 0;
        Step::Line
    }

    const fn field(&mut self) -> Option<Step> {
        self.fields += 1;
        if self.fields > MAX_FIELDS { None } else { self.more(Step::Name) }
    }

    const fn more(&mut self, step: Step) -> Option<Step> {
        self.extra += 1;
        if self.extra > MAX_EXTRA { None } else { Some(step) }
    }
}
