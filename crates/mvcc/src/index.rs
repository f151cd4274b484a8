//! The key index: all keys in order, with their live revisions and newest values.
//!
//! A B+tree of our own with counts in its inner nodes, so that the number of keys in a range is
//! known in O(log n). Keys lie packed in their node, without the prefix they share.

mod build;
mod cursor;
mod packed;
mod slot;
mod tree;

pub(crate) use self::build::Builder;
pub(crate) use self::slot::{Change, ChangeKind, Slot, Version};
pub(crate) use self::tree::{KeyParts, Tree};
