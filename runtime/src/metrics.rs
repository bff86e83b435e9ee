//! What the server measures of itself, under vLLM's names, in Prometheus's classic text format.
//!
//! The names, labels and buckets are those of vLLM, so that its dashboards, gateways and autoscalers read this server
//! unchanged; the names that vLLM has dropped but live software still asks for are given too. Histograms
//! come from the engine as they happen ([`Metrics`] is its [`EngineObserver`]); gauges and counters that the engine
//! keeps are copied from [`EngineStats`] when they are read.
//!
//! The recorder is local to the value, not global: two servers in one process do not share numbers.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};

use crate::engine::{EngineObserver, EngineStats, RequestSummary, StepSummary, SubmitError};
use crate::executor::Capacity;
use crate::expert_loads::LayerLoad;

/// Names with their buckets: the bounds are vLLM's (`vllm/v1/metrics/loggers.py`). Seconds, tokens or counts.
const HISTOGRAMS: [(&str, &[f64], &str); 16] = [
    ("vllm:time_to_first_token_seconds", &FIRST_TOKEN, "Time to first token, seconds."),
    ("vllm:inter_token_latency_seconds", &BETWEEN_TOKENS, "Time between two tokens of a request, seconds."),
    (
        "vllm:request_time_per_output_token_seconds",
        &BETWEEN_TOKENS,
        "Mean time per output token of a request, seconds.",
    ),
    ("vllm:e2e_request_latency_seconds", &LATENCY, "Time from arrival to end of a request, seconds."),
    ("vllm:request_queue_time_seconds", &LATENCY, "Time from arrival to first step, seconds."),
    ("vllm:request_inference_time_seconds", &LATENCY, "Time from first step to last token, seconds."),
    ("vllm:request_prefill_time_seconds", &LATENCY, "Time from first step to first token, seconds."),
    ("vllm:request_decode_time_seconds", &LATENCY, "Time from first to last token, seconds."),
    ("vllm:request_prompt_tokens", &TOKENS, "Prompt tokens of a request."),
    ("vllm:request_generation_tokens", &TOKENS, "Tokens generated for a request."),
    ("vllm:request_max_num_generation_tokens", &TOKENS, "Most tokens that a request could have had."),
    ("vllm:request_params_max_tokens", &TOKENS, "max_tokens of a request."),
    ("vllm:request_params_n", &COUNTS, "n of a request."),
    ("vllm:request_num_preemptions", &COUNTS, "How often a request lost its pages."),
    ("vllm:iteration_tokens_total", &STEP_TOKENS, "Rows of a step."),
    ("trefoil:step_time_seconds", &BETWEEN_TOKENS, "Time from launch to collection of a step, seconds."),
];

const LATENCY: [f64; 20] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0,
];
const FIRST_TOKEN: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
const BETWEEN_TOKENS: [f64; 19] =
    [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
const STEP_TOKENS: [f64; 13] =
    [1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
const COUNTS: [f64; 5] = [1.0, 2.0, 5.0, 10.0, 20.0];
const TOKENS: [f64; 19] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];

/// Why requests end, in the words of the label `finished_reason`.
const ENDINGS: [&str; 4] = ["stop", "length", "abort", "error"];

/// All metrics of one server.
pub struct Metrics {
    recorder: PrometheusRecorder,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics labelled with `model_name` and `engine` (0: one engine a process).
    ///
    /// # Errors
    /// A table of buckets is empty, which none is.
    pub fn new(model_name: &str) -> Result<Self, BuildError> {
        let labelled =
            PrometheusBuilder::new().add_global_label("model_name", model_name).add_global_label("engine", "0");
        let builder = HISTOGRAMS.iter().try_fold(labelled, |builder, (name, buckets, _)| {
            builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
        })?;
        let metrics = Self { recorder: builder.build_recorder() };
        metrics.announce();
        Ok(metrics)
    }

    /// The exposition text. `stats` and `capacity` of the engine are read at this moment.
    pub fn render(&self, stats: &EngineStats, experts: &[LayerLoad], capacity: &Capacity) -> String {
        self.copy_gauges(stats, capacity);
        self.copy_counters(stats);
        experts.iter().for_each(|load| self.copy_load(load));
        self.recorder.handle().render()
    }

    /// Folds the samples since the last call into the histograms. Without it they pile up until the next
    /// [`Self::render`]; call it every few seconds.
    pub fn run_upkeep(&self) {
        self.recorder.handle().run_upkeep();
    }

    /// Counts a request to the HTTP server: the route it matched, its method, and the class of the status (`2xx`).
    pub fn on_http(&self, handler: &str, method: &str, status: u16) {
        let labels = vec![
            Label::new("handler", handler.to_owned()),
            Label::new("method", method.to_owned()),
            Label::new("status", format!("{}xx", status / 100)),
        ];
        self.counter("http_requests_total", labels).increment(1);
    }

    /// Counts an answer that ended, by why; `abort` for one whose reader went away.
    pub fn on_answer(&self, finished_reason: &'static str) {
        self.success(finished_reason).increment(1);
    }

    /// Notes the parameter `n` of a request, and its `max_tokens` if it named one.
    pub fn on_params(&self, n: usize, max_tokens: Option<usize>) {
        self.histogram("vllm:request_params_n").record(n as f64);
        if let Some(max_tokens) = max_tokens {
            self.histogram("vllm:request_params_max_tokens").record(max_tokens as f64);
        }
    }

    /// Describes all metrics and registers those that must be there from the start: rates over absent series are no
    /// rates.
    fn announce(&self) {
        for (name, _, description) in HISTOGRAMS {
            self.recorder.describe_histogram(KeyName::from(name), None, description.into());
            let _ = self.histogram(name);
        }
        for ending in ENDINGS {
            let _ = self.success(ending);
        }
        for reason in REFUSALS {
            let _ = self.refused(reason);
        }
    }

    fn copy_gauges(&self, stats: &EngineStats, capacity: &Capacity) {
        let usage = stats.kv_usage();
        let gauges = [
            ("vllm:num_requests_running", stats.num_running as f64),
            ("vllm:num_requests_waiting", stats.num_waiting as f64),
            ("vllm:kv_cache_usage_perc", usage),
            // Dropped by vLLM, still read by routers and dashboards.
            ("vllm:gpu_cache_usage_perc", usage),
        ];
        for (name, value) in gauges {
            self.gauge(name, Vec::new()).set(value);
        }
        let config = vec![
            Label::new("block_size", capacity.page_tokens.to_string()),
            Label::new("num_gpu_blocks", capacity.num_pages.to_string()),
        ];
        self.gauge("vllm:cache_config_info", config).set(1.0);
    }

    fn copy_counters(&self, stats: &EngineStats) {
        let counters = [
            ("vllm:prompt_tokens_total", stats.num_prompt_tokens),
            ("vllm:generation_tokens_total", stats.num_generation_tokens),
            ("vllm:num_preemptions_total", stats.num_preemptions),
            ("trefoil:steps_total", stats.num_steps),
        ];
        for (name, value) in counters {
            self.counter(name, Vec::new()).absolute(value);
        }
    }

    /// A series per expert, and one per layer of how often a step read one of its experts: the two of them tell how
    /// evenly rows fall, and how many weights a step has to read.
    fn copy_load(&self, load: &LayerLoad) {
        let layer = || Label::new("layer", load.layer.to_string());
        self.counter("trefoil:expert_reads_total", vec![layer()]).absolute(load.reads);
        for (expert, rows) in load.rows.iter().enumerate() {
            let labels = vec![layer(), Label::new("expert", expert.to_string())];
            self.counter("trefoil:expert_rows_total", labels).absolute(*rows);
        }
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        self.recorder.register_histogram(&Key::from_static_name(name), &METADATA)
    }

    fn seconds(&self, name: &'static str, duration: Option<Duration>) {
        if let Some(duration) = duration {
            self.histogram(name).record(duration.as_secs_f64());
        }
    }

    fn success(&self, finished_reason: &'static str) -> Counter {
        let labels = vec![Label::from_static_parts("finished_reason", finished_reason)];
        self.counter("vllm:request_success_total", labels)
    }

    fn refused(&self, reason: &'static str) -> Counter {
        let labels = vec![Label::from_static_parts("reason", reason)];
        self.counter("vllm:admission_rejections_total", labels)
    }
}

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// vLLM's word for a full queue, then our own.
const REFUSALS: [&str; 4] = ["max_num_queued_reqs", "never_fits", "draining", "stopped"];

impl EngineObserver for Metrics {
    fn on_step(&self, step: &StepSummary) {
        self.histogram("vllm:iteration_tokens_total").record(step.num_tokens as f64);
        self.seconds("trefoil:step_time_seconds", Some(step.elapsed));
    }

    fn on_first_token(&self, time_to_first_token: Duration) {
        self.seconds("vllm:time_to_first_token_seconds", Some(time_to_first_token));
    }

    fn on_token(&self, inter_token: Duration) {
        self.seconds("vllm:inter_token_latency_seconds", Some(inter_token));
    }

    fn on_finished(&self, request: &RequestSummary) {
        let counts = [
            ("vllm:request_prompt_tokens", request.num_prompt_tokens),
            ("vllm:request_generation_tokens", request.num_generated_tokens),
            ("vllm:request_max_num_generation_tokens", request.max_tokens),
            ("vllm:request_num_preemptions", request.num_preemptions),
        ];
        for (name, count) in counts {
            self.histogram(name).record(count as f64);
        }
        self.seconds("vllm:e2e_request_latency_seconds", Some(request.end_to_end));
        self.seconds("vllm:request_queue_time_seconds", request.queued);
        self.seconds("vllm:request_prefill_time_seconds", request.prefill);
        self.seconds("vllm:request_decode_time_seconds", request.decode);
        self.seconds("vllm:request_inference_time_seconds", request.inference());
        self.seconds("vllm:request_time_per_output_token_seconds", request.time_per_output_token());
    }

    fn on_refused(&self, error: &SubmitError) {
        let [queue_full, never_fits, draining, stopped] = REFUSALS;
        let reason = match error {
            SubmitError::QueueFull { .. } => queue_full,
            SubmitError::NeverFits { .. } => never_fits,
            SubmitError::Draining => draining,
            SubmitError::Stopped => stopped,
        };
        self.refused(reason).increment(1);
    }
}
