//! Whether devices that are granted ATS have it on.

use crate::attach::is_fatal;
use crate::device::DeviceId;
use crate::error::Error;
use crate::group::Condition;
use crate::registry::Iommus;

impl Iommus {
    /// Says that `device`'s own ATS is about to be off, or on again: before a reset of the device,
    /// whoever asks for it, and before ATS Enable is set anew. See
    /// [`IommuDriver::set_device_tlb`](crate::IommuDriver::set_device_tlb). Returns whether the
    /// device may have its ATS on now: not where its group is not granted it, nor while the group
    /// is contained.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`]; the driver's. Where the IOMMU did not confirm the change the
    /// group is dead.
    pub fn set_device_tlb(&self, device: DeviceId, on: bool) -> Result<bool, Error> {
        let group = self.group_of(device)?;
        let instance = group.instance();
        let mut state = group.lock();
        let granted = state.attachment.as_ref().is_some_and(|attachment| attachment.policy.ats);
        if !granted || on && state.condition() != Condition::Assigned {
            return Ok(false);
        }
        let behind =
            |stream| instance.routes().find(stream).is_some_and(|(behind, _)| behind == device);
        let told = state.streams.iter().filter(|&&stream| behind(stream)).try_for_each(|&stream| {
            group.waits().around(|| instance.driver().set_device_tlb(stream, on))
        });
        if let Err(error) = told {
            if is_fatal(error) {
                self.kill(&group, &mut state);
            }
            return Err(error.into());
        }
        Ok(on)
    }
}
