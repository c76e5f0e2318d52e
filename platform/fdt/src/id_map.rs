//! `iommu-map` and `msi-map`: requester IDs to the IDs of an SMMU or an ITS.

use palisade_board::{IdMap, IdMapEntry, MAX_ID_MAP, Problem};

use crate::controllers::Controllers;
use crate::error::Error;
use crate::tree::Node;

/// Which map is read.
pub(crate) struct Kind {
    map: &'static str,
    mask: &'static str,
    /// The controller's property that says how many cells its IDs have.
    cells: &'static str,
    /// How many there are where it does not say.
    default: Option<u32>,
}

/// To StreamIDs. An IOMMU that does not say how it is named cannot be named.
pub(crate) const STREAMS: Kind =
    Kind { map: "iommu-map", mask: "iommu-map-mask", cells: "#iommu-cells", default: None };
/// To DeviceIDs. The property came later than the map.
pub(crate) const MESSAGES: Kind =
    Kind { map: "msi-map", mask: "msi-map-mask", cells: "#msi-cells", default: Some(1) };

/// The map of a host; empty where there is none.
///
/// # Errors
/// It names no controller, one whose IDs have not one cell, or cannot be divided into lines. It is
/// not used at all then: a line that is read at the wrong place would name another's stream.
pub(crate) fn read<'a>(
    node: &Node<'_, 'a>,
    kind: &Kind,
    controllers: &Controllers<'_, 'a>,
) -> Result<IdMap, Error<'a>> {
    let problem = |problem| node.problem(kind.map, problem);
    let mut map = IdMap { mask: node.u32(kind.mask), ..IdMap::default() };
    let mut cells = node.cells(kind.map);
    while !cells.is_empty() {
        let (Some(input), Some(controller)) = (cells.u32(), cells.u32()) else {
            return Err(problem(Problem::Length));
        };
        let count = controllers.cells_of(controller, kind.cells).map_err(problem)?;
        if count.or(kind.default) != Some(1) {
            return Err(problem(Problem::Cells));
        }
        let (Some(output), Some(length)) = (cells.u32(), cells.u32()) else {
            return Err(problem(Problem::Length));
        };
        if length == 0
            || input.checked_add(length).is_none()
            || output.checked_add(length.saturating_sub(1)).is_none()
        {
            return Err(problem(Problem::Range));
        }
        map.entries
            .try_push(IdMapEntry { input, controller, output, length })
            .map_err(|_| node.too_many("id-map lines", MAX_ID_MAP))?;
    }
    Ok(map)
}

/// What `msi-parent` says where there is no map: the first controller, with requester IDs as its
/// DeviceIDs.
pub(crate) fn parent(node: &Node<'_, '_>) -> Option<IdMap> {
    let controller = node.u32("msi-parent")?;
    let line = IdMapEntry { input: 0, controller, output: 0, length: 0x1_0000 };
    Some(IdMap { mask: None, entries: core::iter::once(line).collect() })
}
