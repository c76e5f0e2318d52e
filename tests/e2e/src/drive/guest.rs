//! One guest on the terminal: its console is ours, its end is our exit status.

use std::io::{IsTerminal, Read};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::console::Screen;
use crate::drive::Job;
use crate::drive::keys::{ESCAPE, Keys, Meaning};
use crate::outcome::{Check, Outcome};
use crate::record::{Records, text};
use crate::session::{Session, Stop};

/// How a guest came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestEnd {
    /// It asked for SYSTEM_OFF.
    Off,
    /// It crashed.
    Crashed,
    /// It was refused.
    Refused,
    /// It ran longer than allowed.
    TimedOut,
    /// The operator left.
    Left,
    /// Something else broke.
    Broken,
}

impl GuestEnd {
    /// The exit status that tells it.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Broken => 1,
            Self::Refused => 2,
            Self::Crashed => 3,
            Self::TimedOut => 124,
            Self::Left => 130,
        }
    }
}

/// Runs the job's only VM with our standard input as its console's input.
#[must_use]
pub fn guest(job: &Job, screen: Box<dyn Screen>) -> (GuestEnd, Outcome) {
    let allowed = Duration::from_secs(job.scenario.timeout);
    let (result, records) = match Session::start(&job.spec, &job.vms, screen, allowed) {
        Ok(mut session) => {
            let result = converse(&mut session);
            (result, std::mem::take(&mut session.records))
        }
        Err(error) => (Err(error), Records::default()),
    };
    let name = job.vms.first().map_or("guest", String::as_str);
    let last = records.vm(name).cloned().unwrap_or_default();
    let (end, error) = match result {
        Ok(()) => match text(&last, "state") {
            Some("off") => (GuestEnd::Off, None),
            Some("refused") => (GuestEnd::Refused, text(&last, "error").map(str::to_owned)),
            Some("crashed") => (GuestEnd::Crashed, text(&last, "error").map(str::to_owned)),
            _ => (GuestEnd::Broken, Some("the report does not say how the guest ended".to_owned())),
        },
        Err(error) => {
            let end = match error.downcast_ref() {
                Some(Stop::TimedOut(_)) => GuestEnd::TimedOut,
                Some(Stop::Interrupted) => GuestEnd::Left,
                _ => GuestEnd::Broken,
            };
            (end, Some(format!("{error:#}")))
        }
    };
    let check = Check::new("guest-powers-off", end == GuestEnd::Off, last);
    let Job { scenario, board, .. } = job;
    let outcome =
        Outcome::judge(&scenario.name, board, &scenario.checks, vec![check], error, records);
    (end, outcome)
}

fn converse(session: &mut Session) -> Result<()> {
    let (board, mut keys) = (keyboard(), Keys::default());
    loop {
        match board.try_recv() {
            Ok(bytes) => {
                let mut plain = Vec::with_capacity(bytes.len());
                for meaning in bytes.into_iter().filter_map(|key| keys.take(key)) {
                    match meaning {
                        Meaning::Guest(byte) => plain.push(byte),
                        Meaning::Leave => return Err(Stop::Interrupted.into()),
                        Meaning::Line(mut line) => {
                            eprintln!();
                            line.push(b'\n');
                            session.prompt(&line);
                        }
                        Meaning::Show(text) => eprint!("{text}"),
                    }
                }
                if !plain.is_empty() {
                    session.send(0, &plain);
                }
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        match session.pump(Instant::now() + Duration::from_millis(20)) {
            Ok(_) => {}
            Err(error) if matches!(error.downcast_ref(), Some(Stop::Gone { .. })) => break,
            Err(error) => return Err(error),
        }
    }
    match session.finish(Duration::from_secs(1)) {
        Ok(()) => Ok(()),
        // The machine's own end tells more than the status of a refused or crashed guest.
        Err(_) if session.records.ended() => Ok(()),
        Err(error) => bail!(error),
    }
}

/// Our standard input, read by a thread that ends with the process. On a terminal only Ctrl-A is
/// special; the terminal's mode is the caller's business.
fn keyboard() -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin();
        let escapes = input.is_terminal();
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = input.read(&mut buffer) {
            let Some(bytes) = buffer.get(..count) else { return };
            // Bytes from a file or a pipe are the guest's, Ctrl-A included.
            let doubled = |byte: &u8| [*byte].repeat(1 + usize::from(*byte == ESCAPE && !escapes));
            let bytes = bytes.iter().flat_map(doubled).collect();
            if send.send(bytes).is_err() {
                return;
            }
        }
    });
    receive
}
