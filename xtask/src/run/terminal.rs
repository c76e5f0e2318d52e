//! The operator's terminal in raw mode while a guest owns it.

use std::io::IsTerminal;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Raw until dropped.
pub struct Raw(Option<Termios>);

impl Raw {
    /// Switches; does nothing where standard input is no terminal.
    pub fn enter() -> Self {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Self(None);
        }
        let Ok(before) = tcgetattr(&input) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        // Our own log lines still want their carriage returns.
        raw.output_modes = before.output_modes;
        match tcsetattr(&input, OptionalActions::Now, &raw) {
            Ok(()) => Self(Some(before)),
            Err(_) => Self(None),
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing better can be done about a terminal that is gone.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
