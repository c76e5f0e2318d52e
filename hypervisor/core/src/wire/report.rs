//! The report: one JSON object per line on its own channel.

use core::fmt::{self, Write};

use arrayvec::ArrayString;

use crate::wire::console;

/// Longest record, in bytes.
const LONGEST: usize = 1024;

/// A record under construction. It lives on the stack, since a panic writes one too.
pub(crate) struct Record {
    text: ArrayString<LONGEST>,
    whole: bool,
}

impl Record {
    /// A record of this type.
    pub(crate) fn new(kind: &str) -> Self {
        let mut record = Self { text: ArrayString::new(), whole: true };
        record.raw("{\"type\":");
        record.quoted(format_args!("{kind}"));
        record
    }

    /// Adds a string.
    pub(crate) fn text(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.key(key);
        self.quoted(format_args!("{value}"));
        self
    }

    /// Adds a number.
    pub(crate) fn number(mut self, key: &str, value: u64) -> Self {
        self.key(key);
        self.append(format_args!("{value}"));
        self
    }

    /// Adds true or false.
    pub(crate) fn flag(mut self, key: &str, value: bool) -> Self {
        self.key(key);
        self.raw(if value { "true" } else { "false" });
        self
    }

    /// Adds a number, or null.
    pub(crate) fn maybe(mut self, key: &str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.number(key, value),
            None => {
                self.key(key);
                self.raw("null");
                self
            }
        }
    }

    /// Adds a string, or null.
    pub(crate) fn maybe_text(mut self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(key, value),
            None => {
                self.key(key);
                self.raw("null");
                self
            }
        }
    }

    /// Adds a number as a string of hexadecimal digits after 0x.
    pub(crate) fn address(mut self, key: &str, value: u64) -> Self {
        self.key(key);
        self.append(format_args!("\"{value:#x}\""));
        self
    }

    /// Adds bytes as a string of hexadecimal digits, in memory order.
    pub(crate) fn bytes(mut self, key: &str, value: &[u8]) -> Self {
        self.key(key);
        self.raw("\"");
        for byte in value {
            self.append(format_args!("{byte:02x}"));
        }
        self.raw("\"");
        self
    }

    /// Sends it; a record that grew too long is dropped, with a word in the log.
    pub(crate) fn send(mut self) {
        self.raw("}\n");
        if self.whole {
            console::report(self.text.as_bytes());
        } else {
            log::error!("a report record is longer than {LONGEST} bytes and was dropped");
        }
    }

    fn key(&mut self, key: &str) {
        self.raw(",");
        self.quoted(format_args!("{key}"));
        self.raw(":");
    }

    fn raw(&mut self, text: &str) {
        self.whole &= self.text.try_push_str(text).is_ok();
    }

    fn append(&mut self, text: fmt::Arguments<'_>) {
        self.whole &= self.text.write_fmt(text).is_ok();
    }

    fn quoted(&mut self, text: fmt::Arguments<'_>) {
        self.raw("\"");
        self.whole &= fmt::write(&mut Escape(&mut self.text), text).is_ok();
        self.raw("\"");
    }
}

/// JSON's escapes for what a string must not hold.
struct Escape<'a>(&'a mut ArrayString<LONGEST>);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '"' | '\\' => self.0.write_fmt(format_args!("\\{letter}"))?,
                '\0'..='\x1f' => self.0.write_fmt(format_args!("\\u{:04x}", letter as u32))?,
                _ => self.0.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(record: Record) -> alloc::string::String {
        assert!(record.whole);
        alloc::format!("{}}}", record.text)
    }

    #[test]
    fn every_kind_of_value() {
        let record = Record::new("t")
            .text("a", "x\"\\\n")
            .number("b", 7)
            .maybe("c", None)
            .address("d", 0x40)
            .flag("h", true)
            .bytes("e", &[1, 0xff])
            .maybe_text("f", Some("g"));
        assert_eq!(
            json(record),
            "{\"type\":\"t\",\"a\":\"x\\\"\\\\\\u000a\",\"b\":7,\"c\":null,\"d\":\"0x40\",\"h\":true,\
             \"e\":\"01ff\",\"f\":\"g\"}"
        );
    }

    #[test]
    fn a_record_that_is_too_long_is_not_whole() {
        let long = "x".repeat(LONGEST);
        assert!(!Record::new("t").text("a", long).whole);
    }
}
