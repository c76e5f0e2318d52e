//! The one UART that leaves the hypervisor, taken apart into channels.
//!
//! Before the line `PALISADE-MUX-1` the wire is plain text. After it, it holds frames only:
//! `0x01, channel, length 1..=255, payload`. Zero bytes between frames are padding.

/// The line after which the wire holds frames.
pub const SWITCH: &[u8] = b"PALISADE-MUX-1\n";
const START: u8 = 0x01;
const MAX_PAYLOAD: usize = 255;

/// Who speaks on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Text outside any frame: before the switch, or from something that knows no frames.
    Plain,
    /// The hypervisor's log; towards the hypervisor, the operator's prompt.
    Log,
    /// The report: one JSON object per line.
    Report,
    /// The console of the VM with this index in the manifest.
    Vm(u8),
}

impl Channel {
    fn from_wire(number: u8) -> Self {
        match number {
            0 => Self::Log,
            1 => Self::Report,
            n => Self::Vm(n - 2),
        }
    }

    fn to_wire(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Log => Some(0),
            Self::Report => Some(1),
            Self::Vm(n) => n.checked_add(2),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Plain { matched: usize },
    Idle,
    Channel,
    Length(Channel),
    Payload { channel: Channel, left: u8 },
}

/// Takes the byte stream apart, however it is cut into reads.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    pending: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Plain { matched: 0 }, pending: Vec::new() }
    }
}

impl Decoder {
    /// Whether the switch line has passed.
    #[must_use]
    pub fn switched(&self) -> bool {
        !matches!(self.state, State::Plain { .. })
    }

    /// Feeds bytes as they came; `out` gets each channel's bytes in order.
    pub fn feed(&mut self, bytes: &[u8], mut out: impl FnMut(Channel, &[u8])) {
        for &byte in bytes {
            match self.state {
                State::Plain { matched } => self.plain(byte, matched, &mut out),
                State::Idle => match byte {
                    0 => {}
                    START => {
                        self.flush(Channel::Plain, &mut out);
                        self.state = State::Channel;
                    }
                    stray => self.pending.push(stray),
                },
                State::Channel => self.state = State::Length(Channel::from_wire(byte)),
                State::Length(_) if byte == 0 => self.state = State::Idle,
                State::Length(channel) => self.state = State::Payload { channel, left: byte },
                State::Payload { channel, left } => {
                    self.pending.push(byte);
                    if left == 1 {
                        self.flush(channel, &mut out);
                        self.state = State::Idle;
                    } else {
                        self.state = State::Payload { channel, left: left - 1 };
                    }
                }
            }
        }
        // A frame is handed over whole; text outside frames as it comes.
        match self.state {
            State::Plain { matched: 0 } | State::Idle => self.flush(Channel::Plain, &mut out),
            _ => {}
        }
    }

    fn plain(&mut self, byte: u8, matched: usize, out: &mut impl FnMut(Channel, &[u8])) {
        let matched = match SWITCH.get(matched) {
            Some(&expected) if expected == byte => matched + 1,
            // The switch line has no letter twice at its start, so a mismatch can only begin anew.
            _ if SWITCH.first() == Some(&byte) => 1,
            _ => 0,
        };
        self.pending.push(byte);
        if matched == SWITCH.len() {
            let text = self.pending.len() - matched;
            self.pending.truncate(text);
            self.flush(Channel::Plain, out);
            self.state = State::Idle;
        } else {
            self.state = State::Plain { matched };
        }
    }

    fn flush(&mut self, channel: Channel, out: &mut impl FnMut(Channel, &[u8])) {
        if !self.pending.is_empty() {
            out(channel, &self.pending);
            self.pending.clear();
        }
    }
}

/// Frames bytes for the way in. Text outside frames has no way in, so `Plain` gives nothing.
#[must_use]
pub fn encode(channel: Channel, bytes: &[u8]) -> Vec<u8> {
    let Some(number) = channel.to_wire() else { return Vec::new() };
    let mut framed = Vec::with_capacity(bytes.len() + 3 * (bytes.len() / MAX_PAYLOAD + 1));
    for chunk in bytes.chunks(MAX_PAYLOAD) {
        let Ok(length) = u8::try_from(chunk.len()) else { continue };
        framed.extend([START, number, length]);
        framed.extend_from_slice(chunk);
    }
    framed
}

/// Collects bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// A longer line is cut: nobody may fill the host's memory.
    const LONGEST: usize = 64 * 1024;

    /// Adds bytes; `line` gets each complete line without its end.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for &byte in bytes {
            if byte == b'\n' || self.partial.len() >= Self::LONGEST {
                line(String::from_utf8_lossy(&self.partial).trim_end_matches('\r'));
                self.partial.clear();
            }
            if byte != b'\n' {
                self.partial.push(byte);
            }
        }
    }

    /// What came after the last line's end.
    pub fn rest(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial.clear();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(stream: &[u8], cut: usize) -> Vec<(Channel, Vec<u8>)> {
        let mut decoder = Decoder::default();
        let mut got: Vec<(Channel, Vec<u8>)> = Vec::new();
        for chunk in stream.chunks(cut) {
            decoder.feed(chunk, |channel, bytes| match got.last_mut() {
                Some((last, text)) if *last == channel => text.extend_from_slice(bytes),
                _ => got.push((channel, bytes.to_vec())),
            });
        }
        got
    }

    #[test]
    fn any_cut_of_the_stream_gives_the_same_channels() {
        let mut stream = b"early PALPALISADE text\nPALISADE-MUX-1\n".to_vec();
        stream.extend(encode(Channel::Log, b"hello\n"));
        stream.extend([0; 5]);
        stream
            .extend(encode(Channel::Vm(0), b"\x01\x00guest bytes that look like a frame \x01\x01"));
        stream.extend(encode(Channel::Report, &[b'x'; 600]));
        let whole = decode(&stream, stream.len());
        assert_eq!(whole[0], (Channel::Plain, b"early PALPALISADE text\n".to_vec()));
        assert_eq!(whole[1], (Channel::Log, b"hello\n".to_vec()));
        assert_eq!(whole[2].0, Channel::Vm(0));
        assert_eq!(whole[3], (Channel::Report, vec![b'x'; 600]));
        assert_eq!(whole.len(), 4);
        for cut in 1..40 {
            assert_eq!(decode(&stream, cut), whole, "cut every {cut} bytes");
        }
    }

    #[test]
    fn a_torn_frame_is_completed_by_a_panics_padding() {
        let mut stream = SWITCH.to_vec();
        stream.extend([START, 2, 200, b'a', b'b']);
        stream.extend([0; 260]);
        stream.extend(encode(Channel::Log, b"panic\n"));
        let got = decode(&stream, 7);
        assert_eq!(got[0].0, Channel::Vm(0));
        assert_eq!(got[0].1.len(), 200);
        assert_eq!(got[1], (Channel::Log, b"panic\n".to_vec()));
    }

    #[test]
    fn text_between_frames_is_kept_apart() {
        let mut stream = SWITCH.to_vec();
        stream.extend(b"stray");
        stream.extend(encode(Channel::Log, b"x"));
        assert_eq!(decode(&stream, 3)[0], (Channel::Plain, b"stray".to_vec()));
    }
}
