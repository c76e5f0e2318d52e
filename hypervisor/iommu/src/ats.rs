//! Whether devices that are granted ATS have it on.

use crate::device::DeviceId;
use crate::error::Error;
use crate::registry::Iommus;

impl Iommus {
    /// Says that `device`'s own ATS is about to be off, or on again: before a reset of the device,
    /// whoever asks for it, and before ATS Enable is set anew. See
    /// [`IommuDriver::set_device_tlb`](crate::IommuDriver::set_device_tlb). Nothing where the
    /// device's group is not granted ATS.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`]; the driver's.
    pub fn set_device_tlb(&self, device: DeviceId, on: bool) -> Result<(), Error> {
        let group = self.group_of(device)?;
        let instance = group.instance();
        let state = group.lock();
        if !state.attachment.as_ref().is_some_and(|attachment| attachment.policy.ats) {
            return Ok(());
        }
        for &stream in &state.streams {
            if instance.routes().find(stream).is_some_and(|(behind, _)| behind == device) {
                instance.driver().set_device_tlb(stream, on)?;
            }
        }
        Ok(())
    }
}
