//! How large an executor is: limits, KV memory, threads; and what the memory went to.

use std::fmt;
use std::thread;

use trefoil_kernels::cpu::{ElementType, KEY_BLOCK};

use crate::device::cpu::{CpuDevice, Memory, MemorySizes, PageShape};
use crate::model::{BoundModel, BufferRows, BufferSpec, CompiledPlan};
use crate::similar::most_similar;

/// Share of the memory that is free after the weights are loaded which KV pages and buffers may take together; the
/// rest is for request texts, the page cache and other programs.
const FREE_MEMORY_SHARE: f64 = 0.8;

/// Limits and choices of an executor.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutorOptions {
    /// Most tokens of one step.
    pub max_num_batched_tokens: usize,
    /// Most sequences of one step.
    pub max_num_seqs: usize,
    /// Longest sequence, in tokens.
    pub max_model_len: usize,
    /// Tokens of a KV page, a multiple of the kernels' block of 32.
    pub page_tokens: usize,
    /// Bytes for KV pages; `None` takes what is free, up to what `max_num_seqs` longest sequences need.
    pub kv_memory_bytes: Option<usize>,
    /// How KV pages are stored.
    pub kv_dtype: KvDtype,
    /// Which plan steps run by.
    pub plan: PlanChoice,
    /// Threads; `None` takes all processors that this process may use.
    pub num_threads: Option<usize>,
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self {
            max_num_batched_tokens: 2048,
            max_num_seqs: 256,
            max_model_len: 4096,
            page_tokens: KEY_BLOCK,
            kv_memory_bytes: None,
            kv_dtype: KvDtype::Auto,
            plan: PlanChoice::Auto,
            num_threads: None,
        }
    }
}

/// How KV pages are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvDtype {
    /// As the weights are.
    #[default]
    Auto,
    /// bfloat16.
    Bfloat16,
    /// float32.
    Float32,
}

/// Which plan steps run by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PlanChoice {
    /// The one that suits a step's rows.
    #[default]
    Auto,
    /// Always the one of this name.
    Named(String),
}

/// Why there is no executor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// A limit that nothing could run under.
    #[error("{name} is {value}, it must be {needs}")]
    Limit {
        /// The limit.
        name: &'static str,
        /// Its value.
        value: usize,
        /// What would do.
        needs: String,
    },
    /// A plan that the model was not compiled with.
    #[error(
        "there is no plan `{name}`{}; the model was compiled with: {}",
        similar.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default(),
        known.join(", ")
    )]
    UnknownPlan {
        /// The name.
        name: String,
        /// The plan with the most similar name.
        similar: Option<String>,
        /// All plans.
        known: Vec<String>,
    },
    /// A plan for another device.
    #[error("plan `{name}` is made for {device}, and this device is a {}", CpuDevice::KIND)]
    OtherDevice {
        /// The plan.
        name: String,
        /// The profile it is made for.
        device: &'static str,
    },
    /// A model that is divided among ranks.
    #[error("`{model}` is divided among {ranks} ranks, and this device is one rank: take the model without ranks")]
    Sharded {
        /// The model.
        model: &'static str,
        /// How many ranks it takes.
        ranks: u32,
    },
    /// The KV memory does not hold a single page.
    #[error("{available_bytes} bytes are left for KV pages, one page of {page_tokens} tokens takes {page_bytes}")]
    NoRoomForPages {
        /// Bytes for KV pages.
        available_bytes: usize,
        /// Tokens of a page.
        page_tokens: usize,
        /// Bytes of a page in all layers.
        page_bytes: usize,
    },
    /// The system refuses the memory.
    #[error("the system refuses the memory for buffers and KV pages")]
    OutOfMemory,
    /// The system refuses a thread.
    #[error("the system refuses a thread: {0}")]
    Thread(String),
}

impl ExecutorOptions {
    /// Threads to use.
    pub fn num_threads(&self) -> usize {
        self.num_threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1)
    }

    /// The plan that every step runs by, if one is named: its number among those that this device runs.
    pub(super) fn fixed_plan(
        &self,
        usable: &[&CompiledPlan<CpuDevice>],
        all: &[CompiledPlan<CpuDevice>],
    ) -> Result<Option<usize>, ExecutorError> {
        let PlanChoice::Named(name) = &self.plan else { return Ok(None) };
        if let Some(index) = usable.iter().position(|plan| plan.name == name) {
            return Ok(Some(index));
        }
        if let Some(device) = all.iter().find(|plan| plan.name == name).and_then(|plan| plan.device) {
            return Err(ExecutorError::OtherDevice { name: name.clone(), device });
        }
        let known: Vec<String> = usable.iter().map(|plan| plan.name.to_owned()).collect();
        let similar = most_similar(name, known.iter().map(String::as_str)).map(str::to_owned);
        Err(ExecutorError::UnknownPlan { name: name.clone(), similar, known })
    }

    /// Checks the limits and works out how many KV pages there will be.
    pub(super) fn sizes(
        &self,
        model: &BoundModel,
        weights: ElementType,
        plans: &[Vec<BufferSpec>],
    ) -> Result<MemorySizes, ExecutorError> {
        self.check()?;
        let element = match self.kv_dtype {
            KvDtype::Auto => weights,
            KvDtype::Bfloat16 => ElementType::Bf16,
            KvDtype::Float32 => ElementType::F32,
        };
        let page_shape = PageShape { element, page_tokens: self.page_tokens };
        let page_bytes = page_shape.page_bytes(&model.caches).max(1);
        let available_bytes = self.kv_memory_bytes.unwrap_or_else(|| free_for_pages(self.buffer_bytes(plans)));
        // More than this no mix of sequences can ever use.
        let useful = self.max_num_seqs.saturating_mul(self.max_model_len.div_ceil(self.page_tokens));
        let num_pages = (available_bytes / page_bytes).min(useful);
        if num_pages == 0 {
            let page_tokens = self.page_tokens;
            return Err(ExecutorError::NoRoomForPages { available_bytes, page_tokens, page_bytes });
        }
        Ok(MemorySizes {
            max_num_batched_tokens: self.max_num_batched_tokens,
            max_num_seqs: self.max_num_seqs,
            max_model_len: self.max_model_len,
            page_shape,
            num_pages,
        })
    }

    fn check(&self) -> Result<(), ExecutorError> {
        let limits = [
            ("max_num_batched_tokens", self.max_num_batched_tokens),
            ("max_num_seqs", self.max_num_seqs),
            ("max_model_len", self.max_model_len),
        ];
        let most = i32::MAX as usize;
        if let Some((name, value)) = limits.into_iter().find(|(_, value)| *value == 0 || *value > most) {
            return Err(ExecutorError::Limit { name, value, needs: format!("between 1 and {most}") });
        }
        let value = self.page_tokens;
        if value == 0 || !value.is_multiple_of(KEY_BLOCK) {
            let needs = format!("a multiple of {KEY_BLOCK}");
            return Err(ExecutorError::Limit { name: "page_tokens", value, needs });
        }
        Ok(())
    }

    /// Bytes of the largest plan's buffers, rows' padding aside.
    fn buffer_bytes(&self, plans: &[Vec<BufferSpec>]) -> usize {
        let rows = |spec: &BufferSpec| match spec.rows {
            BufferRows::Tokens => self.max_num_batched_tokens,
            BufferRows::Seqs => self.max_num_seqs,
        };
        let bytes = |specs: &Vec<BufferSpec>| {
            specs.iter().map(|spec| rows(spec).saturating_mul(spec.columns).saturating_mul(size_of::<f32>())).sum()
        };
        plans.iter().map(bytes).max().unwrap_or(0)
    }
}

fn free_for_pages(buffer_bytes: usize) -> usize {
    let free = (available_memory().unwrap_or(0) as f64 * FREE_MEMORY_SHARE) as usize;
    free.saturating_sub(buffer_bytes)
}

/// Bytes that this process may still take: what the system has and, in a container, what its limit leaves.
fn available_memory() -> Option<usize> {
    let system = meminfo_bytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(container_limit().map_or(system, |left| left.min(system)))
}

fn meminfo_bytes(meminfo: &str, key: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

/// What the control group's limit (version 2) leaves, `None` where there is none.
fn container_limit() -> Option<usize> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse().ok();
    let (limit, used): (usize, usize) = (read("memory.max")?, read("memory.current")?);
    Some(limit.saturating_sub(used))
}

/// What an executor's memory went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// Bytes of packed weights.
    pub weight_bytes: usize,
    /// Bytes of activation buffers.
    pub buffer_bytes: usize,
    /// Bytes of all KV pages.
    pub kv_bytes: usize,
    /// KV pages.
    pub num_pages: usize,
    /// Bytes of one page in all layers.
    pub page_bytes: usize,
    /// Tokens that all pages hold.
    pub kv_tokens: usize,
}

impl Ledger {
    pub(super) fn new(memory: &Memory, model: &BoundModel, sizes: &MemorySizes) -> Self {
        Self {
            weight_bytes: memory.weight_bytes(),
            buffer_bytes: memory.buffer_bytes(),
            kv_bytes: memory.kv_bytes(),
            num_pages: sizes.num_pages,
            page_bytes: sizes.page_shape.page_bytes(&model.caches),
            kv_tokens: sizes.num_pages * sizes.page_shape.page_tokens,
        }
    }

    /// Bytes of everything.
    pub fn total_bytes(&self) -> usize {
        self.weight_bytes + self.buffer_bytes + self.kv_bytes
    }
}

impl fmt::Display for Ledger {
    /// `weights 2.1 GiB, buffers 120.0 MiB, KV cache 1.5 GiB (1200 pages, 38400 tokens)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [weights, buffers, kv] = [self.weight_bytes, self.buffer_bytes, self.kv_bytes].map(Bytes);
        let (pages, tokens) = (self.num_pages, self.kv_tokens);
        write!(f, "weights {weights}, buffers {buffers}, KV cache {kv} ({pages} pages, {tokens} tokens)")
    }
}

struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.0 as f64 / f64::from(1 << 20);
        if mebibytes >= 1024.0 { write!(f, "{:.1} GiB", mebibytes / 1024.0) } else { write!(f, "{mebibytes:.1} MiB") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read_from_meminfo() {
        let meminfo = "MemTotal:       24684092 kB\nMemFree: 1 kB\nMemAvailable:   20859776 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "MemAvailable:"), Some(20_859_776 * 1024));
        assert_eq!(meminfo_bytes("MemTotal: 1 kB\n", "MemAvailable:"), None);
    }

    #[test]
    fn the_ledger_reads_like_a_log_line() {
        let ledger = Ledger {
            weight_bytes: 2200 << 20,
            buffer_bytes: 120 << 20,
            kv_bytes: 1536 << 20,
            num_pages: 1200,
            page_bytes: 0,
            kv_tokens: 38400,
        };
        let line = "weights 2.1 GiB, buffers 120.0 MiB, KV cache 1.5 GiB (1200 pages, 38400 tokens)";
        assert_eq!(ledger.to_string(), line);
    }
}
