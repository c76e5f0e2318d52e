//! Whether we may install packages, and how to ask.

use std::io::{BufRead, IsTerminal, Write};
use std::process::{Command, Stdio};

/// How to become root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// We are root.
    Root,
    /// sudo works without a password.
    Sudo,
    /// sudo exists and somebody is there to type a password.
    SudoAsks,
    /// None.
    None,
}

impl Rights {
    /// Finds out.
    pub fn detect() -> Self {
        if rustix::process::geteuid().is_root() {
            return Self::Root;
        }
        let silent = Command::new("sudo")
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match silent {
            Ok(status) if status.success() => Self::Sudo,
            Ok(_) if on_terminal() => Self::SudoAsks,
            _ => Self::None,
        }
    }

    /// A command with these rights.
    pub fn command(self, program: &str) -> Command {
        let mut command = match self {
            Self::Root | Self::None => Command::new(program),
            Self::Sudo | Self::SudoAsks => {
                let mut command = Command::new("sudo");
                if self == Self::Sudo {
                    command.arg("-n");
                }
                command.arg(program);
                command
            }
        };
        if self != Self::SudoAsks {
            command.stdin(Stdio::null());
        }
        command
    }
}

/// Whether somebody can be asked.
pub fn on_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks on a terminal; without one the answer is yes.
pub fn agreed(question: &str) -> bool {
    if !on_terminal() {
        return true;
    }
    eprint!("{question} [Y/n] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(1..) => matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"),
        _ => false,
    }
}
