//! Counts what comes in on its serial line, slower than it can come.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use palisade_payloads::command::serve;
use palisade_payloads::platform::Platform;
use palisade_payloads::{console, payload, println, time};

payload!(main);

/// Input is over when none came for so long.
const QUIET_MS: u64 = 500;

fn main(_platform: &Platform<'_>) {
    serve("listener", |_, verb, _| obey(verb));
}

/// One command; nothing when it makes no sense.
fn obey(verb: &str) -> Option<()> {
    match verb {
        "echo" => println!("ok"),
        "count" => {
            println!("# counting");
            count();
        }
        _ => return None,
    }
    Some(())
}

fn count() {
    let (mut bytes, mut overruns, mut last) = (0u64, 0u64, time::now());
    while bytes == 0 || !time::passed(last, QUIET_MS) {
        if let Some((_, overrun)) = console::received() {
            bytes += 1;
            overruns += u64::from(overrun);
            last = time::now();
            // No guest is this slow, and none must be fast.
            time::pause(20);
        }
    }
    println!("ok bytes={bytes} overruns={overruns}");
}
