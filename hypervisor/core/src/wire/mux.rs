//! One serial line, several channels.
//!
//! After [`BANNER`] the wire holds frames only: [`MARK`], channel, length (1 to
//! 255), payload. Zero bytes between frames are padding. Every byte of a guest
//! is payload, so none can forge a switch.

/// Announces that frames follow.
pub const BANNER: &[u8] = b"PALISADE-MUX-1\n";
/// First byte of a frame.
pub const MARK: u8 = 1;
/// Channel of the log; inwards, of the operator's prompt.
pub const LOG: u8 = 0;
/// Channel of the report: one JSON object per line.
pub const REPORT: u8 = 1;
/// Channel of the console of the first VM; the others follow.
pub const FIRST_VM: u8 = 2;
/// More zero bytes than a frame has bytes: completes any torn frame.
pub const PADDING: usize = 260;

/// Cuts `bytes` into frames of `channel` and hands them to `put`.
pub fn frames(channel: u8, bytes: &[u8], put: &mut dyn FnMut(u8)) {
    for payload in bytes.chunks(255) {
        put(MARK);
        put(channel);
        // A chunk has 1 to 255 bytes.
        put(payload.len() as u8);
        payload.iter().for_each(|&byte| put(byte));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Expect {
    #[default]
    Mark,
    Channel,
    Length(u8),
    Payload(u8, u8),
}

/// Takes frames apart again, byte by byte.
#[derive(Default, Debug)]
pub struct Demux(Expect);

impl Demux {
    /// Expects the beginning of a frame.
    pub const fn new() -> Self {
        Self(Expect::Mark)
    }

    /// The next byte on the wire; answers a byte of a payload with its channel.
    pub fn push(&mut self, byte: u8) -> Option<(u8, u8)> {
        let (next, out) = match (self.0, byte) {
            (Expect::Mark, MARK) => (Expect::Channel, None),
            (Expect::Mark, _) => (Expect::Mark, None),
            (Expect::Channel, channel) => (Expect::Length(channel), None),
            (Expect::Length(_), 0) => (Expect::Mark, None),
            (Expect::Length(channel), left) => (Expect::Payload(channel, left), None),
            (Expect::Payload(channel, 1), byte) => (Expect::Mark, Some((channel, byte))),
            (Expect::Payload(channel, left), byte) => {
                (Expect::Payload(channel, left.saturating_sub(1)), Some((channel, byte)))
            }
        };
        self.0 = next;
        out
    }
}
