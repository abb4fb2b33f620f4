//! What workers of one generation share below the maths, and the project's only foreign functions.
//!
//! # Layout
//! * [`cuda`]: loads libtorch's CUDA half at run time, where there is one.
//!
//! A generation has one worker so far, so there is nothing to communicate yet: the communicators come in here.

pub mod cuda;
