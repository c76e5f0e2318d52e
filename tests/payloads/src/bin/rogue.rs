//! Owns an edu device and attacks with it whatever it is told to.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use palisade_payloads::command::{Words, argument, serve};
use palisade_payloads::edu::{BUFFER_SIZE, Edu, IDENTITY};
use palisade_payloads::memory::{Page, read64, write64};
use palisade_payloads::pci::Bus;
use palisade_payloads::platform::Platform;
use palisade_payloads::{payload, power, println};

payload!(main);

/// What is sent.
static SCRATCH: Page = Page::new();
/// What the host watches.
static CANARY: Page = Page::new();
const CANARY_PATTERN: u32 = 0x5afe_5afe;

fn main(platform: &Platform<'_>) {
    CANARY.fill(CANARY_PATTERN);
    let edu = Bus::open(platform).and_then(|mut bus| {
        let (device, _) = bus.find(|info| (info.vendor_id, info.device_id) == IDENTITY)?;
        bus.enable(device).map(Edu::new)
    });
    match edu {
        Some(edu) => println!("# {edu:x?}"),
        None => println!("# no edu device"),
    }
    serve("rogue", |_, verb, words| obey(platform, edu, verb, words));
}

/// One command; nothing when it makes no sense or the device does not answer.
fn obey(
    platform: &Platform<'_>,
    edu: Option<Edu>,
    verb: &str,
    words: &mut Words<'_>,
) -> Option<()> {
    match verb {
        "ram" => {
            let (base, size) = platform.ram;
            println!("ok base={base:#x} size={size:#x}");
        }
        "canary" => println!("ok ipa={:#x} pattern={CANARY_PATTERN:#x}", CANARY.address()),
        "readonly" => println!("ok ipa={:#x}", argument(platform.bootargs, "readonly")?),
        "peek" => {
            let address = usize::try_from(words.number()?).ok()?;
            // SAFETY: a fault is what whoever asks for a wrong address wants to see.
            println!("ok value={:#x}", unsafe { read64(address & !7) });
        }
        "poke" => {
            let address = usize::try_from(words.number()?).ok()?;
            let value = words.number()?;
            // SAFETY: as above; this is the payload that attacks.
            unsafe { write64(address & !7, value) };
            println!("ok");
        }
        "dma" if words.clone().word() == "r" => {
            words.word();
            let (address, length) = (words.number()?, length(words)?);
            SCRATCH.fill(0);
            edu?.fetch(address, length)?;
            edu?.store(SCRATCH.address() as u64, length)?;
            // SAFETY: our own page.
            println!("ok first={:#x}", unsafe { read64(SCRATCH.address()) });
        }
        "load" => {
            let length = length(words)?;
            SCRATCH.fill(u32::try_from(words.number()?).ok()?);
            edu?.fetch(SCRATCH.address() as u64, length)?;
            println!("ok");
        }
        // The last thing that this VM does: what was loaded goes out when it is gone.
        "last" => {
            let (address, length) = (words.number()?, length(words)?);
            edu?.arm(address, length);
            power::off();
        }
        "dma" | "arm" if words.word() == "w" => {
            let (address, length) = (words.number()?, length(words)?);
            SCRATCH.fill(u32::try_from(words.number()?).ok()?);
            edu?.fetch(SCRATCH.address() as u64, length)?;
            if verb == "arm" {
                edu?.arm(address, length);
            } else {
                edu?.store(address, length)?;
            }
            println!("ok");
        }
        _ => return None,
    }
    Some(())
}

/// A length that stays inside the device's buffer.
fn length(words: &mut Words<'_>) -> Option<u64> {
    words.number().filter(|length| (1..=BUFFER_SIZE).contains(length))
}
