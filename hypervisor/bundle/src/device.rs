//! A device that a manifest gives to a VM.

use alloc::boxed::Box;

use palisade_fdt::Node;

use crate::error::{Error, Problem};
use crate::vm::Context;

/// Longest settle time, in milliseconds.
const MAX_SETTLE: u64 = 60_000;

/// Place of a PCI function: segment, bus, device, function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Requester {
    /// Segment (`linux,pci-domain` of the host).
    pub segment: u16,
    /// Requester ID: bus << 8 | device << 3 | function.
    pub bdf: u16,
}

/// Where a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place<'a> {
    /// On PCI.
    Pci(Requester),
    /// In the board's device tree, by full path.
    Path(&'a str),
}

/// A device that a manifest gives to a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device<'a> {
    /// Where it is.
    pub place: Place<'a>,
    /// Where the guest sees a PCI function: bus << 8 | device << 3 | function.
    pub guest: u16,
    /// The operator takes the risk of a device that cannot be reset.
    pub no_reset: bool,
    /// How long it may still access memory after a reset, in milliseconds.
    pub settle_ms: u32,
    /// The operator trusts it with ATS; on PCI only.
    pub ats_trusted: bool,
    /// Its faulting transactions may stall until software answers; never on PCI.
    pub stalls: bool,
}

impl<'a> Device<'a> {
    /// Reads a `device@N` node. `guest` is its place unless it names one.
    pub(crate) fn read(
        node: &Node<'_, 'a>,
        context: Context<'a>,
        guest: u16,
    ) -> Result<Self, Box<Error<'a>>> {
        let mut pci = None;
        let mut path = None;
        let mut device = Self {
            place: Place::Path(""),
            guest,
            no_reset: false,
            settle_ms: 0,
            ats_trusted: false,
            stalls: false,
        };
        node.properties(&mut |name, value| {
            match name {
                "pci" => pci = Some(context.u32(name, value)?),
                "fdt-path" => match context.text(name, value)? {
                    text if text.starts_with('/') => path = Some(text),
                    text => return Err(context.error(name, Problem::Text(text))),
                },
                "guest-bdf" => {
                    let bdf = context.number(name, context.u32(name, value)?.into(), 0, 0xffff)?;
                    device.guest = u16::try_from(bdf).unwrap_or(0);
                }
                "reset" => match context.text(name, value)? {
                    "none" => device.no_reset = true,
                    text => return Err(context.error(name, Problem::Text(text))),
                },
                "settle-ms" => {
                    let time =
                        context.number(name, context.u32(name, value)?.into(), 0, MAX_SETTLE)?;
                    device.settle_ms = u32::try_from(time).unwrap_or(0);
                }
                "ats-trusted" if value.is_empty() => device.ats_trusted = true,
                "stalls" if value.is_empty() => device.stalls = true,
                _ => return Err(context.error(name, Problem::Unknown)),
            }
            Ok(())
        })?;
        device.place = match (pci, path) {
            (Some(place), None) => Place::Pci(Requester {
                segment: u16::try_from(place >> 16).unwrap_or(0),
                bdf: u16::try_from(place & 0xffff).unwrap_or(0),
            }),
            (None, Some(path)) => Place::Path(path),
            _ => return Err(context.error(node.name(), Problem::Place)),
        };
        match device.place {
            Place::Pci(_) if device.stalls => Err(context.error("stalls", Problem::Stalls)),
            Place::Path(_) if device.ats_trusted => {
                Err(context.error("ats-trusted", Problem::OnPciOnly))
            }
            _ => Ok(device),
        }
    }
}
