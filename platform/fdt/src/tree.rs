//! A validated tree, and nodes that know their ancestors.

use arrayvec::ArrayVec;
use fdt::Fdt;
use fdt::node::FdtNode;
use palisade_board::text::divide;

use crate::blob::{self, Fault, FaultKind, MAX_DEPTH};
use crate::cells::Cells;
use crate::error::{Error, Path};
use palisade_board::Problem;

/// A validated device tree.
pub struct Tree<'a> {
    fdt: Fdt<'a>,
}

/// What [`Tree::visit`] does next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Goes on to the node's children.
    Children,
    /// Leaves the node's children out.
    Skip,
    /// Stops.
    Stop,
}

/// A node together with its ancestors.
#[derive(Clone)]
pub struct Node<'b, 'a> {
    /// From the root (first) to the node itself (last); never empty.
    chain: ArrayVec<FdtNode<'b, 'a>, MAX_DEPTH>,
}

impl<'a> Tree<'a> {
    /// Validates `bytes`.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        blob::validate(bytes)?;
        match Fdt::new(bytes) {
            Ok(fdt) => Ok(Self { fdt }),
            Err(_) => Err(Fault { offset: 0, kind: FaultKind::Magic }),
        }
    }

    /// Size of the whole blob in bytes.
    pub fn size(&self) -> usize {
        self.fdt.total_size()
    }

    pub(crate) const fn fdt(&self) -> &Fdt<'a> {
        &self.fdt
    }

    /// Calls `each` for every node, parents before children, in the tree's order.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn visit<'b>(
        &'b self,
        each: &mut dyn FnMut(&Node<'b, 'a>) -> Result<Visit, Error<'a>>,
    ) -> Result<(), Error<'a>> {
        let mut node = Node { chain: ArrayVec::new() };
        if let Some(root) = self.first(&mut |_| true) {
            node.chain.push(root);
            descend(&mut node, each)?;
        }
        Ok(())
    }

    /// The enabled node that `found` answers true for, first in the tree's order.
    pub fn find<'b>(
        &'b self,
        found: &mut dyn FnMut(&Node<'b, 'a>) -> bool,
    ) -> Option<Node<'b, 'a>> {
        let mut hit = None;
        let _ = self.visit(&mut |node| {
            if !node.enabled() {
                return Ok(Visit::Skip);
            }
            if found(node) {
                hit = Some(node.clone());
                return Ok(Visit::Stop);
            }
            Ok(Visit::Children)
        });
        hit
    }

    /// The node of a full path, unit addresses included.
    pub fn node(&self, path: &str) -> Option<Node<'_, 'a>> {
        let mut chain = ArrayVec::<FdtNode<'_, 'a>, MAX_DEPTH>::new();
        chain.push(self.first(&mut |_| true)?);
        let mut rest = path.strip_prefix('/')?;
        while !rest.is_empty() {
            let (name, more) = divide(rest, b'/').unwrap_or((rest, ""));
            rest = more;
            if name.is_empty() {
                continue;
            }
            let child = chain.last()?.children().find(|child| child.name == name)?;
            chain.try_push(child).ok()?;
        }
        Some(Node { chain })
    }

    /// The node that `wanted` answers true for, first in the tree's order; the root comes first.
    #[inline(never)]
    fn first(&self, wanted: &mut dyn FnMut(&FdtNode<'_, 'a>) -> bool) -> Option<FdtNode<'_, 'a>> {
        self.fdt.all_nodes().find(|node| wanted(node))
    }
}

/// Depth first, bounded by the validated depth.
fn descend<'b, 'a>(
    node: &mut Node<'b, 'a>,
    each: &mut dyn FnMut(&Node<'b, 'a>) -> Result<Visit, Error<'a>>,
) -> Result<bool, Error<'a>> {
    match each(node)? {
        Visit::Stop => return Ok(false),
        Visit::Skip => return Ok(true),
        Visit::Children => {}
    }
    let Some(this) = node.chain.last().copied() else { return Ok(true) };
    for child in this.children() {
        if node.chain.try_push(child).is_err() {
            break;
        }
        let more = descend(node, each);
        node.chain.pop();
        if !more? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl<'b, 'a> Node<'b, 'a> {
    pub(crate) fn chain(&self) -> &[FdtNode<'b, 'a>] {
        &self.chain
    }

    /// The node above; none above the root.
    pub(crate) fn above(&self) -> Option<Self> {
        let mut above = self.clone();
        above.chain.pop();
        (!above.chain.is_empty()).then_some(above)
    }

    /// Whether its accesses to memory snoop the CPUs' caches: the nearest of itself and the buses
    /// above it that says so, or says that they do not, decides.
    pub(crate) fn coherent(&self) -> bool {
        let says = |node: &FdtNode<'_, '_>| {
            let yes = node.property("dma-coherent").is_some();
            let no = node.property("dma-noncoherent").is_some();
            (yes || no).then_some(yes)
        };
        self.chain.iter().rev().find_map(says).unwrap_or(false)
    }

    /// Its name with the unit address; "/" for the root.
    pub fn name(&self) -> &'a str {
        match self.chain.last() {
            Some(node) if self.chain.len() > 1 => node.name,
            _ => "/",
        }
    }

    /// How deep it lies: 0 for the root.
    pub fn depth(&self) -> usize {
        self.chain.len().saturating_sub(1)
    }

    /// The name of the node above, "/" for the root's children.
    pub fn parent_name(&self) -> &'a str {
        match self.chain.len() {
            0..=2 => "/",
            length => self.chain.get(length.wrapping_sub(2)).map_or("/", |node| node.name),
        }
    }

    /// Its full path, cut off where longer than [`Path`].
    pub fn path(&self) -> Path {
        let mut path = Path::new();
        for node in self.chain.iter().skip(1) {
            if path.try_push('/').is_err() || path.try_push_str(node.name).is_err() {
                break;
            }
        }
        if path.is_empty() {
            let _ = path.try_push('/');
        }
        path
    }

    /// The value of a property.
    #[inline(never)]
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        self.chain.last()?.property(name).map(|property| property.value)
    }

    /// Calls `each` with name and value of every property.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn properties<E>(
        &self,
        each: &mut dyn FnMut(&'a str, &'a [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(node) = self.chain.last() {
            for property in node.properties() {
                each(property.name, property.value)?;
            }
        }
        Ok(())
    }

    /// Calls `each` for every child, in the tree's order.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn children<E>(
        &self,
        each: &mut dyn FnMut(&Node<'b, 'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(this) = self.chain.last() else { return Ok(()) };
        let mut child = self.clone();
        for node in this.children() {
            if child.chain.try_push(node).is_err() {
                break;
            }
            each(&child)?;
            child.chain.pop();
        }
        Ok(())
    }

    /// The cells of a property; none where it is absent.
    #[inline(never)]
    pub fn cells(&self, name: &str) -> Cells<'a> {
        Cells::new(self.property(name).unwrap_or_default())
    }

    /// A property of one cell.
    #[inline(never)]
    pub fn u32(&self, name: &str) -> Option<u32> {
        self.cells(name).u32()
    }

    /// A property that is one text.
    ///
    /// # Errors
    /// [`Problem::Text`] if it is not NUL-terminated UTF-8.
    #[inline(never)]
    pub fn text(&self, name: &'static str) -> Result<Option<&'a str>, Error<'a>> {
        let Some(value) = self.property(name) else { return Ok(None) };
        match core::str::from_utf8(value).ok().and_then(|text| text.strip_suffix('\0')) {
            Some(text) if !text.bytes().any(|byte| byte == 0) => Ok(Some(text)),
            _ => Err(self.problem(name, Problem::Text)),
        }
    }

    /// The texts of a list property; what is not UTF-8 is left out.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.property(name).unwrap_or_default();
        core::iter::from_fn(move || next_text(&mut rest))
    }

    /// Whether its `compatible` lists one of `names`.
    #[inline(never)]
    pub fn compatible(&self, names: &[&str]) -> bool {
        self.texts("compatible").any(|text| names.contains(&text))
    }

    /// Whether its `status` is absent or okay.
    #[inline(never)]
    pub fn enabled(&self) -> bool {
        self.texts("status").next().is_none_or(|status| status == "okay" || status == "ok")
    }

    /// Its phandle, 0 where it has none.
    #[inline(never)]
    pub fn phandle(&self) -> u32 {
        self.u32("phandle").or_else(|| self.u32("linux,phandle")).unwrap_or(0)
    }

    /// The error that a property of this node is.
    #[cold]
    #[inline(never)]
    pub(crate) fn problem(&self, property: &'static str, problem: Problem) -> Error<'a> {
        Error::Property { node: self.name(), property, problem }
    }

    /// The error that this node has too many of something.
    #[cold]
    #[inline(never)]
    pub(crate) fn too_many(&self, what: &'static str, most: usize) -> Error<'a> {
        Error::TooMany { node: self.name(), what, most }
    }
}

/// Takes the next text that is neither empty nor malformed.
#[inline(never)]
fn next_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let text = rest.get(..end).unwrap_or_default();
        *rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
        match core::str::from_utf8(text) {
            Ok(text) if !text.is_empty() => return Some(text),
            _ => {}
        }
    }
    None
}

/// `#address-cells` of a node; `default` where absent.
#[inline(never)]
pub(crate) fn cell_count(node: &FdtNode<'_, '_>, name: &str, default: u32) -> u32 {
    node.property(name).and_then(|property| Cells::new(property.value).u32()).unwrap_or(default)
}
