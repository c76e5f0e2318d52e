//! Ways to die on request (`palisade.die=HOW`), so that tests can see that the
//! protections hold and that a death is reported.

use core::hint::black_box;

use crate::panic::context::Context;

/// Dies as the command line asks: `panic`; `text` writes to code, `data` runs
/// data, `stack` runs out of stack. Comes back when a protection failed.
pub(crate) fn provoke(how: &str, context: &Context) {
    match how {
        "panic" => panic!("as the command line asks"),
        "text" => {
            let text = context.image.start as *mut u8;
            // SAFETY: the first byte of the image is the Image header's, mapped
            // read only: the store faults. Were it to succeed, nothing runs it.
            unsafe { text.write_volatile(black_box(0)) };
        }
        "data" => {
            // A return instruction, in case it does run.
            static CODE: [core::sync::atomic::AtomicU32; 1] =
                [core::sync::atomic::AtomicU32::new(0xd65f_03c0)];
            // SAFETY: `CODE` holds a function that only returns; it lies in data,
            // which is never executable, so that the call faults.
            let run = unsafe { core::mem::transmute::<*const u32, fn()>(CODE.as_ptr().cast()) };
            run();
        }
        "stack" => log::error!("survived {} frames", deeper(0)),
        _ => return log::error!("palisade.die={how}: no such way"),
    }
    log::error!("palisade.die={how}: the protection failed");
}

#[allow(unconditional_recursion, reason = "it is meant to end in the guard page")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    deeper(depth + 1) + frame.iter().sum::<u64>()
}
