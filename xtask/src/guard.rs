//! Starts QEMU so that it dies with us, even when we are killed outright: this program, run once
//! more, asks the kernel for that and then becomes QEMU.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

const WORD: &str = "__guard";

/// The words that start a program under the guard.
pub fn words() -> Vec<OsString> {
    match std::env::current_exe() {
        Ok(us) => vec![us.into(), WORD.into(), std::process::id().to_string().into()],
        Err(_) => Vec::new(),
    }
}

/// Becomes the guarded program when asked to; `None` when this is an ordinary start.
pub fn intercept() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != WORD {
        return None;
    }
    let parent = arguments.next()?.to_str()?.parse::<i32>().ok()?;
    let program = arguments.next()?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
            eprintln!("warning: QEMU may outlive a kill: {error}");
        }
        // The parent may have gone before the line above.
        if getppid().is_none_or(|pid| pid.as_raw_nonzero().get() != parent) {
            return Some(ExitCode::FAILURE);
        }
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("cannot start {}: {error}", program.display());
    Some(ExitCode::FAILURE)
}
