//! Transactions that stall, and a guest that does not answer.

use super::*;

/// A guest that answers nothing: what it was told of is kept for it only so long.
#[test]
fn stalls_that_wait_for_the_guest_are_bounded() {
    let house = house();
    assert_eq!(house.does(call::FAULT_RING, &[RAM, 32 << 10]), Status::Success);
    let mut aborted = 0;
    for tag in 0..300 {
        house.driver.push_event(Raw { stall: Some(tag), ..raw(0x10, 0x1000, false) });
        house.does(call::FAULTS_POLL, &[]);
        let calls = house.driver.take_calls();
        aborted += calls.iter().filter(|call| matches!(call, Call::Resume(..))).count();
    }
    assert_eq!(aborted, 300 - 256);
    assert_eq!(house.does(call::RESUME, &[8, 0, 1]), Status::Success, "the first still waits");
    assert_eq!(house.does(call::RESUME, &[8, 299, 1]), Status::NotFound);
}
