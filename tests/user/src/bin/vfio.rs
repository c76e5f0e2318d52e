//! Drives QEMU's teaching device from user space by VFIO, as any program of a guest may whose
//! kernel has an IOMMU: maps memory for the device, has it copy by IOVAs, unmaps, and has it write
//! once more. `vfio GROUP DEVICE` prints `ok copied=1 blocked=1 again=1`.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Requests of linux/vfio.h: type ';', from 100 on.
const SET_IOMMU: u64 = 0x3b66;
const SET_CONTAINER: u64 = 0x3b68;
const GET_DEVICE: u64 = 0x3b6a;
const REGION_INFO: u64 = 0x3b6c;
const MAP_DMA: u64 = 0x3b71;
const UNMAP_DMA: u64 = 0x3b72;
const TYPE1_V2: u64 = 3;
/// Regions: BAR 0 and configuration space.
const BAR0: u32 = 0;
const CONFIGURATION: u32 = 7;
/// Command register: memory decode and bus mastering.
const COMMAND: u64 = 4;
const ENABLE: u16 = 1 << 1 | 1 << 2;

const PAGE: usize = 4096;
/// Two pages for the device.
const IOVA: u64 = 0x1000_0000;
const BYTES: usize = 2 * PAGE;
const LENGTH: u64 = 64;
/// The device's own buffer, and its registers.
const BUFFER: u64 = 0x4_0000;
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const START: usize = 0x98;
const PATIENCE: Duration = Duration::from_secs(20);

#[repr(C)]
#[derive(Default)]
struct Region {
    size_of_this: u32,
    flags: u32,
    index: u32,
    capabilities: u32,
    bytes: u64,
    offset: u64,
}

#[repr(C)]
struct Map {
    size_of_this: u32,
    flags: u32,
    address: u64,
    iova: u64,
    bytes: u64,
}

#[repr(C)]
struct Unmap {
    size_of_this: u32,
    flags: u32,
    iova: u64,
    bytes: u64,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(group), Some(device)) = (words.next(), words.next()) else {
        bail!("vfio GROUP DEVICE");
    };
    let container = open("/dev/vfio/vfio")?;
    let group = open(&format!("/dev/vfio/{group}"))?;
    let number = container.as_raw_fd();
    request(&group, SET_CONTAINER, (&raw const number) as u64).context("container")?;
    request(&container, SET_IOMMU, TYPE1_V2).context("type 1 IOMMU")?;
    let name = format!("{device}\0");
    let device = request(&group, GET_DEVICE, name.as_ptr() as u64).context("device")?;
    // SAFETY: the kernel has just made this descriptor for us.
    let device = unsafe { File::from_raw_fd(device) };

    let configuration = region(&device, CONFIGURATION)?;
    let mut command = [0; 2];
    device.read_exact_at(&mut command, configuration.offset + COMMAND)?;
    let command = u16::from_le_bytes(command) | ENABLE;
    device.write_all_at(&command.to_le_bytes(), configuration.offset + COMMAND)?;
    let bar = region(&device, BAR0)?;
    let edu = Edu(map(Some((&device, bar.offset)), PAGE)?);
    let memory = map(None, BYTES)?;

    let fill = |page: usize, value: u8| {
        // SAFETY: one of our two pages; the device has nothing under way.
        unsafe { memory.add(page * PAGE).write_bytes(value, PAGE) };
    };
    let holds = |page: usize, value: u8| {
        // SAFETY: as above.
        (0..LENGTH as usize)
            .all(|at| unsafe { memory.add(page * PAGE + at).read_volatile() } == value)
    };
    fill(0, 0x5a);
    fill(1, 0);
    share(&container, memory as u64)?;
    edu.move_bytes(IOVA, BUFFER, 0)?;
    edu.move_bytes(BUFFER, IOVA + PAGE as u64, 2)?;
    let copied = holds(1, 0x5a);
    fill(1, 0x11);
    let unmap = Unmap {
        size_of_this: size_of::<Unmap>() as u32,
        flags: 0,
        iova: IOVA,
        bytes: BYTES as u64,
    };
    request(&container, UNMAP_DMA, (&raw const unmap) as u64).context("unmap")?;
    edu.move_bytes(BUFFER, IOVA + PAGE as u64, 2)?;
    let blocked = holds(1, 0x11);
    share(&container, memory as u64)?;
    edu.move_bytes(BUFFER, IOVA + PAGE as u64, 2)?;
    let again = holds(1, 0x5a);
    let [copied, blocked, again] = [copied, blocked, again].map(u8::from);
    println!("ok copied={copied} blocked={blocked} again={again}");
    Ok(())
}

fn open(path: &str) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(path).with_context(|| path.to_owned())
}

fn request(file: &File, number: u64, argument: u64) -> Result<i32> {
    // SAFETY: each caller gives the structure that its request takes, alive for the call.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), number as libc::Ioctl, argument) };
    if answer < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(answer) }
}

fn region(device: &File, index: u32) -> Result<Region> {
    let mut region =
        Region { size_of_this: size_of::<Region>() as u32, index, ..Region::default() };
    request(device, REGION_INFO, (&raw mut region) as u64).context("region")?;
    Ok(region)
}

/// Maps a file, or memory of our own.
fn map(file: Option<(&File, u64)>, bytes: usize) -> Result<*mut u8> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let (kind, number, offset) = match file {
        Some((file, offset)) => (libc::MAP_SHARED, file.as_raw_fd(), offset),
        None => (libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0),
    };
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe {
        libc::mmap(std::ptr::null_mut(), bytes, access, kind, number, offset as libc::off_t)
    };
    if at == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error()).context("mmap");
    }
    Ok(at.cast())
}

/// Lets the device reach our two pages at [`IOVA`].
fn share(container: &File, address: u64) -> Result<()> {
    let size_of_this = size_of::<Map>() as u32;
    // Readable and writable.
    let map = Map { size_of_this, flags: 3, address, iova: IOVA, bytes: BYTES as u64 };
    request(container, MAP_DMA, (&raw const map) as u64).context("map")?;
    Ok(())
}

/// The device's registers.
struct Edu(*mut u8);

impl Edu {
    fn set(&self, register: usize, value: u64) {
        // SAFETY: inside BAR 0, which is ours; the registers take 8 bytes.
        unsafe { self.0.add(register).cast::<u64>().write_volatile(value) };
    }

    /// Moves bytes between memory and the buffer, and waits for the end.
    fn move_bytes(&self, from: u64, to: u64, direction: u64) -> Result<()> {
        self.set(SOURCE, from);
        self.set(DESTINATION, to);
        self.set(COUNT, LENGTH);
        self.set(START, 1 | direction);
        let start = Instant::now();
        // SAFETY: as in `set`.
        while unsafe { self.0.add(START).cast::<u64>().read_volatile() } & 1 != 0 {
            if start.elapsed() > PATIENCE {
                bail!("the device does not come to an end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
