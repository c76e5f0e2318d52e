//! The Arm SMMUv3 driver: registers, queues, stream and context-descriptor tables, invalidation.
#![no_std]
#![allow(unsafe_code)]
