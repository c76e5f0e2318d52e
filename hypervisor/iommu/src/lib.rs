//! IOMMU core: instances, groups, domains, attach, faults to owners, IOASIDs, PASID tables, SVA.
#![no_std]
#![forbid(unsafe_code)]
