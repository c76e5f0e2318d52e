//! A guest's RAM, as calls see it.

use palisade_hal::Ipa;

/// The range is not all RAM of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IPA {0} is not the guest's RAM")]
pub struct OutsideRam(pub Ipa);

/// Bounds-checked access to one VM's RAM by IPA.
pub trait GuestRam: Send + Sync {
    /// All of `start..start + bytes` is RAM of the VM that its devices may reach.
    fn contains(&self, start: Ipa, bytes: u64) -> bool;

    /// Copies out; each byte is read once.
    ///
    /// # Errors
    /// [`OutsideRam`]; nothing is then promised of `to`.
    fn read(&self, start: Ipa, to: &mut [u8]) -> Result<(), OutsideRam>;

    /// Copies in.
    ///
    /// # Errors
    /// [`OutsideRam`]; nothing is then written.
    fn write(&self, start: Ipa, from: &[u8]) -> Result<(), OutsideRam>;
}
