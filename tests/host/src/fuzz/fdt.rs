//! Device tree bytes: no panic, and whatever the validator lets through can be read to its end.

use arbitrary::Unstructured;
use palisade_fdt::{Tree, Visit, board, compact, validate};

use super::edits::edit;
use super::reached::Reached;

const GIC2: &[u8] = include_bytes!("../../../../platform/fdt/tests/virt-gic2.dtb");
const GIC3: &[u8] = include_bytes!("../../../../platform/fdt/tests/virt-gic3.dtb");

/// The first byte says what the rest is: a blob, or edits of a real machine's.
pub fn fdt(data: &[u8], reached: &mut Reached) {
    let Some((kind, rest)) = data.split_first() else { return };
    let mut bytes = match kind % 3 {
        0 => rest.to_vec(),
        1 => GIC2.to_vec(),
        _ => GIC3.to_vec(),
    };
    if kind % 3 != 0 {
        // Too little input is fewer edits.
        let _ = edit(&mut bytes, &mut Unstructured::new(rest));
    }
    read(&bytes, reached);
    let whole = bytes.len();
    if compact(&mut bytes).is_ok() {
        assert_eq!(bytes.len(), whole);
        reached.note("compacted");
        read(&bytes, reached);
    }
}

fn read(bytes: &[u8], reached: &mut Reached) {
    let valid = validate(bytes);
    let tree = Tree::new(bytes);
    assert_eq!(valid.is_ok(), tree.is_ok());
    let Ok(tree) = tree else { return reached.note("malformed") };
    assert!(tree.size() <= bytes.len());
    let (mut nodes, mut paths) = (0usize, 0usize);
    let visited = tree.visit(&mut |node| {
        nodes += 1;
        paths += node.path().to_string().len();
        let _ = (node.enabled(), node.phandle(), node.compatible(&["arm,smmu-v3"]));
        node.properties::<palisade_fdt::Error<'_>>(&mut |name, value| {
            paths += name.len() + value.len();
            Ok(())
        })?;
        let _ = node.cells("reg");
        Ok(Visit::Children)
    });
    assert!(visited.is_ok());
    // Every node and property takes a token of its own.
    assert!(nodes <= bytes.len() / 4 && paths <= bytes.len() * 64, "{nodes} {paths}");
    let _ = tree.device("/pl031@9010000", 0x8005);
    match board(&tree) {
        Ok(_) => reached.note("board"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            reached.note("refused");
        }
    }
}
