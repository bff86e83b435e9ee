//! The processor as a device that can be measured. A part of it is a number of whole threads.

use trefoil_kernels::cpu::ElementType;

use super::CpuDevice;
use super::cache::PageShape;
use super::memory::{Memory, MemorySizes};
use crate::executor::DeviceFault;
use crate::launch::{BufferId, StreamId, StreamSpec};
use crate::measure::{Bench, BenchError, Needs};
use crate::weights::{self, LoadOptions, WeightDtype};

/// Most shares that are measured: of many threads, these are enough to draw a line through.
const MAX_SHARES: usize = 8;

impl Bench for CpuDevice {
    /// Threads.
    type Part = usize;

    fn open(needs: &Needs, num_threads: usize) -> Result<(Self, Vec<BufferId>), BenchError> {
        let num_threads = num_threads.max(1);
        let dtype = WeightDtype::Bfloat16;
        let options = LoadOptions { dtype, num_threads, ..LoadOptions::default() };
        let weights = weights::random(&needs.model.weights, options, needs.seed);
        let sizes = MemorySizes {
            max_num_batched_tokens: needs.max_rows,
            max_num_seqs: needs.max_rows,
            max_model_len: needs.max_context,
            page_shape: PageShape { element: ElementType::Bf16, page_tokens: needs.page_tokens },
            num_pages: needs.num_pages,
        };
        let memory = Memory::new(&needs.model, weights, std::slice::from_ref(&needs.buffers), &sizes);
        let (memory, buffers) = memory.ok_or_else(|| BenchError::OutOfMemory(needs.bytes()))?;
        Ok((Self::new(memory, num_threads, None), buffers.concat()))
    }

    fn bench_stream(&mut self, spec: &StreamSpec) -> Result<StreamId, BenchError> {
        self.add_stream(spec).map_err(|error| BenchError::Stream(error.to_string()))
    }

    fn shares(&self) -> Vec<f32> {
        let num_shares = self.num_threads.min(MAX_SHARES);
        let threads = (1..=num_shares).map(|part| part * self.num_threads / num_shares);
        threads.map(|threads| self.share_of(threads)).collect()
    }

    fn finish(&self, stream: StreamId) -> Result<(), DeviceFault> {
        self.synchronize(self.mark(stream))
    }
}

impl CpuDevice {
    /// The share that gives a stream so many threads.
    fn share_of(&self, threads: usize) -> f32 {
        let (threads, all) = (threads as f32, self.num_threads as f32);
        let share = threads / all;
        if (share * all).ceil() > threads { share.next_down() } else { share }
    }
}
