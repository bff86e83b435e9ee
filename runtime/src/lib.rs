//! (being written)
pub mod engine;
pub mod executor;
pub mod request;
pub mod sampler;
pub mod sequence;
pub mod launch;
pub mod kv {
    //! (being written)
    /// (being written)
    pub struct Page;
}
pub mod checkpoint;
pub mod text;
