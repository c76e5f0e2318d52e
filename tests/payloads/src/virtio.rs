//! virtio-drivers' view of a payload: identity-mapped memory, and a transport that accepts the
//! device's wish to be translated.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::memory::Page;

const PAGES: usize = 64;
static POOL: [Page; PAGES] = [const { Page::new() }; PAGES];
static USED: AtomicUsize = AtomicUsize::new(0);

/// Memory for virtio queues: a pool that is never given back.
#[derive(Debug)]
pub struct Memory;

// SAFETY: the pool's pages are valid, zeroed at start (they lie in BSS), page-aligned, and handed
// out once; the map is the identity, so addresses are the same for us and the device.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let first = USED.fetch_add(pages, Ordering::Relaxed);
        assert!(first + pages <= PAGES, "the pool of {PAGES} pages is used up");
        let address = POOL[first].address();
        match NonNull::new(address as *mut u8) {
            Some(pointer) => (address as PhysAddr, pointer),
            None => unreachable!("the pool is not at address 0"),
        }
    }

    unsafe fn dma_dealloc(_address: PhysAddr, _pointer: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _size: usize) -> NonNull<u8> {
        match NonNull::new(address as *mut u8) {
            Some(pointer) => pointer,
            None => panic!("a BAR at address 0"),
        }
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_address: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// VIRTIO_F_ACCESS_PLATFORM: the device's addresses pass an IOMMU. A device that offers it behind
/// one must have it accepted (virtio 1.2, section 6.1).
const ACCESS_PLATFORM: u64 = 1 << 33;

/// A PCI transport that accepts [`ACCESS_PLATFORM`] wherever it is offered.
#[derive(Debug)]
pub struct Translated {
    inner: PciTransport,
    offered: u64,
}

impl Translated {
    /// Around a plain one.
    pub fn new(inner: PciTransport) -> Self {
        Self { inner, offered: 0 }
    }
}

impl Transport for Translated {
    fn device_type(&self) -> DeviceType {
        self.inner.device_type()
    }

    fn read_device_features(&mut self) -> u64 {
        self.offered = self.inner.read_device_features();
        self.offered
    }

    fn write_driver_features(&mut self, features: u64) {
        self.inner.write_driver_features(features | self.offered & ACCESS_PLATFORM);
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.inner.max_queue_size(queue)
    }

    fn notify(&mut self, queue: u16) {
        self.inner.notify(queue);
    }

    fn get_status(&self) -> DeviceStatus {
        self.inner.get_status()
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.inner.set_status(status);
    }

    fn set_guest_page_size(&mut self, size: u32) {
        self.inner.set_guest_page_size(size);
    }

    fn requires_legacy_layout(&self) -> bool {
        self.inner.requires_legacy_layout()
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.inner.queue_set(queue, size, descriptors, driver_area, device_area);
    }

    fn queue_unset(&mut self, queue: u16) {
        self.inner.queue_unset(queue);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.inner.queue_used(queue)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        self.inner.ack_interrupt()
    }

    fn read_config_generation(&self) -> u32 {
        self.inner.read_config_generation()
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        self.inner.read_config_space(offset)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<()> {
        self.inner.write_config_space(offset, value)
    }
}
