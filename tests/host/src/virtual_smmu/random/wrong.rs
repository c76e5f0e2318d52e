//! What no kernel does with its SMMU, between what it does.

use super::{Actor, World};
use crate::sharing::home::Wrong;
use crate::virtual_smmu::kernel;

impl Actor {
    /// What no kernel does.
    pub(super) fn hostile(&mut self, world: &mut World) -> Result<(), Wrong> {
        world.tally.hostile += 1;
        match world.rng.below(6) {
            // An illegal command; the kernel puts another in its place.
            0 => {
                self.flush(world)?;
                let bad = [
                    [0xff, 0],
                    [0x46 | 3 << 12, 0],
                    [0x2a, 0],
                    [0x40, 0],
                    [0x12 | 3 << 32, 3 << 10],
                ];
                let bad = bad[world.rng.index(bad.len())];
                let slot = self.kernel(world).prod & 0xff;
                let sent = self.kernel(world).send(&[bad]);
                let at = kernel::COMMANDS + u64::from(slot) * 16;
                self.kernel(world).put(at, &kernel::sync(None))?;
                if sent.is_err() {
                    let active = self.kernel(world).read(kernel::GERROR);
                    self.kernel(world).write(kernel::GERRORN, active);
                }
                self.kernel(world).ring()
            }
            // Streams of others, and of nobody.
            1 => {
                let stream = match world.rng.below(3) {
                    0 => world.rng.below(0x40) as u32,
                    1 => world.rng.next_u64() as u32,
                    _ => 0x84 + world.rng.below(64) as u32,
                };
                let commands = [
                    kernel::cfgi_ste(stream),
                    kernel::cfgi_cd(stream, 1),
                    kernel::cfgi_cd_all(stream),
                ];
                self.commands.push(commands[world.rng.index(3)]);
                Ok(())
            }
            // Registers that are fixed now, or mean nothing.
            2 => {
                let offsets = [
                    0x80, 0x84, 0x88, 0x90, 0x94, 0x9c, 0xa0, 0x100a8, 0x0, 0x60, 0x24, 0x54, 0xf00,
                ];
                if !self.on {
                    return Ok(());
                }
                let offset = offsets[world.rng.index(offsets.len())];
                let value = world.rng.next_u64() as u32;
                self.kernel(world).write(offset, value);
                Ok(())
            }
            // The queue once more, whatever it holds: a lap.
            3 => {
                self.flush(world)?;
                self.kernel(world).prod ^= 0x100;
                let prod = self.kernel(world).prod;
                self.kernel(world).write(kernel::CMDQ_PROD, prod);
                for _ in 0..64 {
                    self.kernel(world).device.go_on();
                }
                // Illegal ones of earlier are gone from the queue.
                self.kernel(world).ring()
            }
            4 => {
                let value = world.rng.next_u64() as u32;
                self.kernel(world).write(kernel::GERRORN, value);
                Ok(())
            }
            // A flood.
            _ => {
                self.flush(world)?;
                let command = kernel::cfgi_range(0, 31);
                self.kernel(world).queue(&vec![command; 40])?;
                self.flush(world)
            }
        }
    }
}
