//! The loss terms, one formula a file (spec/IRLLREC.md section 5). Each returns its weighted value and adds its gradients
//! to the rows it is given.

pub mod alignment;
pub mod bpr;
pub mod info_nce;
pub mod itm;
pub mod translation;
