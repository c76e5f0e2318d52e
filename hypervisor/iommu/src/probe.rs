//! Claiming the devices behind an instance, and giving them back.
//!
//! Two phases: the first sorts every unclaimed device into groups, so that the order in which
//! devices were announced cannot matter; the second claims them. A device that is claimed
//! already is a success, one behind another instance is none of our business.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::StreamId;

use crate::device::DeviceInfo;
use crate::error::Error;
use crate::group::{Condition, Group};
use crate::instance::Instance;
use crate::registry::Inner;

/// Devices that will share a group; indices into the list of known devices.
struct Plan {
    devices: Vec<usize>,
    streams: Vec<StreamId>,
    isolation: Option<u32>,
    /// The group they join, if it exists.
    into: Option<Arc<Group>>,
}

/// Claims every known device behind `instance` that is not claimed. Replayable.
///
/// # Errors
/// The first failure; everything that this call claimed is released again, in reverse.
pub(crate) fn probe(inner: &mut Inner, instance: &Arc<Instance>) -> Result<(), Error> {
    let plans = plan(inner, instance)?;
    let groups_before = inner.groups.len();
    let mut claimed: Vec<(usize, usize)> = Vec::new();
    let answer = claim_all(inner, instance, plans, &mut claimed);
    if answer.is_err() {
        for (device, streams) in claimed.into_iter().rev() {
            unclaim(inner, instance, device, streams);
        }
        inner.groups.truncate(groups_before);
    }
    answer
}

/// Releases the devices behind `instance`, in reverse, and the groups after `keep`; answers how
/// many devices there were.
pub(crate) fn release(inner: &mut Inner, instance: &Arc<Instance>, keep: usize) -> usize {
    let mine = |group: &Arc<Group>| Arc::ptr_eq(group.instance(), instance);
    let mut released = 0;
    for known in inner.devices.iter_mut().rev() {
        if let Some(group) = known.group.take_if(|group| mine(group)) {
            let streams = core::mem::take(&mut group.lock().streams);
            for stream in streams.into_iter().rev() {
                instance.routes().remove(stream);
            }
            released += 1;
        }
    }
    let mut index = 0;
    inner.groups.retain(|group| {
        index += 1;
        index <= keep || !mine(group)
    });
    released
}

/// Phase one: who belongs together.
fn plan(inner: &Inner, instance: &Arc<Instance>) -> Result<Vec<Plan>, Error> {
    let mut plans: Vec<Plan> = Vec::new();
    for (index, known) in inner.devices.iter().enumerate() {
        if known.info.iommu != Some(instance.phandle()) || known.group.is_some() {
            continue;
        }
        let mut plan = Plan {
            devices: alloc::vec![index],
            streams: known.info.streams.clone(),
            isolation: known.info.isolation,
            into: existing(inner, instance, &known.info)?,
        };
        // Everything planned so far that this device ties together becomes one.
        while let Some(other) = plans.iter().position(|other| tied(other, &plan)) {
            let other = plans.swap_remove(other);
            plan.into = match (plan.into.take(), other.into) {
                (Some(a), Some(b)) if !Arc::ptr_eq(&a, &b) => {
                    return Err(Error::Tangled(known.info.id));
                }
                (a, b) => a.or(b),
            };
            plan.devices.extend(other.devices);
            plan.streams.extend(other.streams);
            plan.isolation = plan.isolation.or(other.isolation);
        }
        plans.push(plan);
    }
    let mut ordered = Vec::new();
    for mut plan in plans {
        let mut devices = Vec::new();
        for device in plan.devices {
            devices.insert(devices.partition_point(|&other| other < device), device);
        }
        plan.devices = devices;
        let first = plan.devices.first().copied();
        let at = ordered.partition_point(|other: &Plan| other.devices.first().copied() < first);
        ordered.insert(at, plan);
    }
    Ok(ordered)
}

fn tied(a: &Plan, b: &Plan) -> bool {
    let same_group = match (&a.into, &b.into) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    same_group
        || (a.isolation.is_some() && a.isolation == b.isolation)
        || a.streams.iter().any(|stream| b.streams.contains(stream))
}

/// The group that a new device must join, if there is one.
fn existing(
    inner: &Inner,
    instance: &Arc<Instance>,
    info: &DeviceInfo,
) -> Result<Option<Arc<Group>>, Error> {
    let mut found: Option<Arc<Group>> = None;
    for group in inner.groups.iter().filter(|group| Arc::ptr_eq(group.instance(), instance)) {
        let state = group.lock();
        let tied = (info.isolation.is_some() && info.isolation == group.isolation())
            || info.streams.iter().any(|stream| state.streams.contains(stream));
        if !tied {
            continue;
        }
        if found.is_some() || state.condition() != Condition::Free {
            return Err(Error::Tangled(info.id));
        }
        found = Some(group.clone());
    }
    Ok(found)
}

/// Phase two: claims device by device; what was done is noted for the caller to undo.
fn claim_all(
    inner: &mut Inner,
    instance: &Arc<Instance>,
    plans: Vec<Plan>,
    claimed: &mut Vec<(usize, usize)>,
) -> Result<(), Error> {
    for plan in plans {
        let group = match plan.into {
            Some(group) => group,
            None => {
                let group = Arc::new(Group::new(instance.clone(), plan.isolation));
                inner.groups.try_reserve(1).map_err(|_| Error::NoMemory)?;
                inner.groups.push(group.clone());
                group
            }
        };
        for device in plan.devices {
            claimed.try_reserve(1).map_err(|_| Error::NoMemory)?;
            let streams = claim(inner, instance, &group, device)?;
            claimed.push((device, streams));
        }
    }
    Ok(())
}

/// Claims one device, all of it or nothing; answers how many streams it added to its group.
fn claim(
    inner: &mut Inner,
    instance: &Arc<Instance>,
    group: &Arc<Group>,
    device: usize,
) -> Result<usize, Error> {
    let Some(known) = inner.devices.get_mut(device) else { return Ok(0) };
    let mut state = group.lock();
    let mut added = 0;
    let mut answer = Ok(());
    for &stream in &known.info.streams {
        if state.streams.contains(&stream) {
            continue;
        }
        answer = instance
            .driver()
            .prepare(stream)
            .map_err(Error::from)
            .and_then(|()| instance.routes().add(stream, known.info.id));
        if answer.is_err() {
            break;
        }
        state.streams.push(stream);
        added += 1;
    }
    if let Err(error) = answer {
        for _ in 0..added {
            if let Some(stream) = state.streams.pop() {
                instance.routes().remove(stream);
            }
        }
        return Err(error);
    }
    state.devices.push(known.info.id);
    drop(state);
    known.group = Some(group.clone());
    Ok(added)
}

/// Undoes [`claim`].
fn unclaim(inner: &mut Inner, instance: &Arc<Instance>, device: usize, streams: usize) {
    let Some(known) = inner.devices.get_mut(device) else { return };
    let Some(group) = known.group.take() else { return };
    let mut state = group.lock();
    state.devices.pop();
    for _ in 0..streams {
        if let Some(stream) = state.streams.pop() {
            instance.routes().remove(stream);
        }
    }
}
