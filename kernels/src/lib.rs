//! The arithmetic of a Llama-family server.
//!
//! Every kernel is a function over a *range of independent work items*: `linear_items` says how many items a product
//! has, `linear` does some of them. Whoever owns the threads hands out item ranges; a kernel never starts a thread,
//! never waits and never allocates once its thread-local scratch has grown to size.
//!
//! ```
//! use trefoil_kernels::cpu::{ElementType, MatMut, MatRef, PackedMatrix, SourceType, WeightRows, linear, linear_items};
//!
//! let source: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|value| value.to_le_bytes()).collect();
//! let rows = WeightRows::new(&source, SourceType::F32, 2, 3)?;
//! let weight = PackedMatrix::pack(&[rows], ElementType::F32)?;
//!
//! let (x, mut out) = ([1.0f32, 0.0, -1.0], [0.0f32; 2]);
//! let items = 0..linear_items(1, &weight);
//! linear(MatRef::new(&x, 1, 3), &weight, None, MatMut::new(&mut out, 1, 2), items);
//! assert_eq!(out, [-2.0, -2.0]);
//! # Ok::<(), trefoil_kernels::cpu::PackError>(())
//! ```
//!
//! # Invariants
//!
//! * **Batch invariance.** A row's result is a function of that row's inputs, bit for bit (NaN payloads aside). It does
//!   not depend on the other rows of the call, on how rows or items are split into calls and threads, on whether a
//!   token is computed alone (decode) or inside a longer span (prefill), nor on the instruction set: every
//!   accumulation order is fixed by the mathematics' own indices and spelled once, generically over a 16-lane vector.
//! * **Unwritten memory is never an operand.** A cache slot that no token was written to can hold NaN; it is excluded
//!   by selection, never multiplied by zero.
//! * **Activations are f32.** Weights and cache elements are bf16 or f32 and widened exactly in registers.
//!
//! The crate must not know threads, streams, requests, graphs or devices; shapes and slots arrive as plain numbers.

pub mod cpu;
