//! Commands: words on a line.

use core::str::SplitAsciiWhitespace;

use crate::console::Line;
use crate::println;

/// The words of a command.
#[derive(Clone, Debug)]
pub struct Words<'a>(SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    /// Of a line.
    pub fn new(line: &'a str) -> Self {
        Self(line.split_ascii_whitespace())
    }

    /// The next word; empty after the last.
    pub fn word(&mut self) -> &'a str {
        self.0.next().unwrap_or_default()
    }

    /// The next word as a decimal or 0x number.
    pub fn number(&mut self) -> Option<u64> {
        number(self.0.next()?)
    }
}

/// Says that the payload is ready, then hands each line (its text, its first word, the rest) to
/// `obey` until one says `off`. A command that makes no sense answers nothing and gets `err`.
pub fn serve(name: &str, mut obey: impl FnMut(&str, &str, &mut Words<'_>) -> Option<()>) {
    println!("ready {name}");
    loop {
        let line = Line::read();
        let mut words = Words::new(line.text());
        let verb = words.word();
        if verb == "off" {
            return;
        }
        if obey(line.text(), verb, &mut words).is_none() {
            println!("err {}", line.text());
        }
    }
}

/// A decimal or 0x number.
pub fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The value of `key=` in a command line, as a number.
pub fn argument(bootargs: &str, key: &str) -> Option<u64> {
    let mut words = bootargs.split_ascii_whitespace();
    number(words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?)
}
