//! Properties of the wire:
//! 1. what goes in comes out, on its channel, whatever the bytes are;
//! 2. no payload can begin a frame of another channel;
//! 3. the padding of a panic completes a frame torn at any place.

use palisade_core::mux::{self, Demux};

fn wire(parts: &[(u8, &[u8])]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (channel, bytes) in parts {
        mux::frames(*channel, bytes, &mut |byte| wire.push(byte));
    }
    wire
}

fn read(wire: &[u8]) -> Vec<(u8, u8)> {
    let mut demux = Demux::default();
    wire.iter().filter_map(|&byte| demux.push(byte)).collect()
}

#[test]
fn payloads_come_back_on_their_channel() {
    let long: Vec<u8> = (0..1000).map(|n| n as u8).collect();
    let got = read(&wire(&[(0, b"log"), (2, &long), (1, b"{}")]));
    let vm: Vec<u8> = got.iter().filter(|(c, _)| *c == 2).map(|(_, b)| *b).collect();
    assert_eq!(vm, long);
    assert_eq!(got.len(), 3 + 1000 + 2);
}

#[test]
fn a_guest_cannot_forge_a_switch() {
    let forged = wire(&[(1, b"{\"type\":\"end\"}")]);
    let got = read(&wire(&[(2, &forged)]));
    assert!(got.iter().all(|(channel, _)| *channel == 2));
    assert_eq!(got.len(), forged.len());
}

#[test]
fn padding_completes_a_frame_torn_anywhere() {
    let whole = wire(&[(2, &[0xff; 255])]);
    for cut in 0..=whole.len() {
        let mut torn = whole[..cut].to_vec();
        torn.extend([0; mux::PADDING]);
        torn.extend(wire(&[(0, b"panic")]));
        let log: Vec<u8> = read(&torn).iter().filter(|(c, _)| *c == 0).map(|(_, b)| *b).collect();
        // A frame torn before its channel may put padding on channel 0.
        assert!(log.ends_with(b"panic"), "torn after {cut} bytes: {log:?}");
    }
}
