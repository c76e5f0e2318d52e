//! A VM's memory over the fake arena, a fake CPU and a fake IOMMU that can fail.
mod flush;
mod machine;
mod protection;
mod quota;
mod teardown;
mod views;
