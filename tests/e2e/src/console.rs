//! How a run is shown: prefixed and coloured lines, or one guest's bytes alone.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};

/// Where a session's lines go. Each VM's text comes twice: as bytes and as lines.
pub trait Screen: Send {
    /// A line of the hypervisor's log, or of text outside any channel.
    fn log(&mut self, line: &str);
    /// A whole line of a VM's console.
    fn line(&mut self, vm: u8, name: &str, line: &str);
    /// Bytes of a VM's console as they came.
    fn bytes(&mut self, _vm: u8, _bytes: &[u8]) {}
}

/// Whether colours may be used on a stream.
#[must_use]
pub fn colours(terminal: bool) -> bool {
    terminal
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
}

/// A style as its terminal code; nothing where colours are off.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self { on: colours(std::io::stdout().is_terminal()) }
    }

    /// For standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self { on: colours(std::io::stderr().is_terminal()) }
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Good news.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.code("32", text)
    }

    /// Bad news.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.code("31;1", text)
    }

    /// A headline.
    #[must_use]
    pub fn head(self, text: &str) -> String {
        self.code("1", text)
    }

    /// Something beside the point.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    /// A VM's own colour.
    #[must_use]
    pub fn vm(self, index: u8, text: &str) -> String {
        const COLOURS: [&str; 6] = ["36", "35", "33", "34", "32", "31"];
        let code = COLOURS.get(usize::from(index) % COLOURS.len()).copied().unwrap_or("0");
        self.code(code, text)
    }
}

/// Everything on standard output, each line with its speaker.
#[derive(Debug)]
pub struct Terminal {
    paint: Paint,
}

impl Default for Terminal {
    fn default() -> Self {
        Self { paint: Paint::stdout() }
    }
}

impl Screen for Terminal {
    fn log(&mut self, line: &str) {
        say(&self.paint.dim(&printable(line)));
    }

    fn line(&mut self, vm: u8, name: &str, line: &str) {
        say(&format!("{} {}", self.paint.vm(vm, &format!("[{name}]")), printable(line)));
    }
}

/// The first VM's bytes alone on standard output; the hypervisor's log on standard error.
#[derive(Debug, Default)]
pub struct Guest;

impl Screen for Guest {
    fn log(&mut self, line: &str) {
        let _ = writeln!(std::io::stderr(), "{}", printable(line));
    }

    fn line(&mut self, _vm: u8, _name: &str, _line: &str) {}

    fn bytes(&mut self, vm: u8, bytes: &[u8]) {
        if vm == 0 {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        }
    }
}

/// Keeps the last lines for a failure's message and shows nothing.
#[derive(Clone, Debug, Default)]
pub struct Quiet {
    kept: Arc<Mutex<VecDeque<String>>>,
}

impl Quiet {
    const MOST: usize = 400;

    /// The last lines.
    #[must_use]
    pub fn transcript(&self) -> String {
        let lines = self.kept.lock().map(|kept| kept.iter().cloned().collect::<Vec<_>>());
        lines.unwrap_or_default().join("\n")
    }

    fn keep(&self, line: String) {
        if let Ok(mut kept) = self.kept.lock() {
            if kept.len() == Self::MOST {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    }
}

impl Screen for Quiet {
    fn log(&mut self, line: &str) {
        self.keep(printable(line));
    }

    fn line(&mut self, _vm: u8, name: &str, line: &str) {
        self.keep(format!("[{name}] {}", printable(line)));
    }
}

/// Prints a line; a closed standard output is no reason to stop a run.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A guest's line without what would move the operator's cursor.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
