//! What there is to say about the machine that is measured, for a profile's `about`.

use std::fs;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use trefoil_runtime::device::cpu::instruction_set;

/// Where the system does not tell the size of its memory.
const UNKNOWN_MEMORY: f64 = 8e9;
/// Where the system does not tell the size of its caches.
const UNKNOWN_CACHE: usize = 32 << 20;

/// The machine and the moment.
pub(super) struct Host {
    /// As the processor calls itself.
    processor: String,
    /// Threads that this process may use.
    pub(super) num_threads: usize,
    /// All of it.
    pub(super) memory_bytes: f64,
    /// Of the largest cache.
    pub(super) cache_bytes: usize,
    /// Programs that wanted to run, averaged over the last minute.
    load: Option<f64>,
    now: SystemTime,
}

impl Host {
    /// What the system tells.
    pub(super) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").ok();
        Self {
            processor: after(&cpuinfo, "model name", ':').unwrap_or("an unnamed processor").to_owned(),
            num_threads: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(&meminfo).unwrap_or(UNKNOWN_MEMORY),
            cache_bytes: cache_bytes().unwrap_or(UNKNOWN_CACHE),
            load: load.and_then(|text| text.split(' ').next()?.parse().ok()),
            now: SystemTime::now(),
        }
    }

    /// When, on what and how: goes on from "Measured".
    pub(super) fn about(&self, num_threads: usize, quick: bool) -> String {
        let (date, processor) = (date(self.now), &self.processor);
        let (gigabytes, cache) = (self.memory_bytes / 1e9, self.cache_bytes >> 20);
        let effort = if quick { "With --quick: fewer rounds and sizes. " } else { "" };
        format!(
            "on {date} (UTC): {num_threads} of {} threads of {processor}, {}, last cache {cache} MiB, {gigabytes:.0} GB of \
             memory; {}. {effort}Medians of launches through the runtime, weights and keys cold. Peaks are the best that \
             was measured, not a specification: of products in bfloat16 weights and float32 arithmetic, and of streamed \
             weights or keys. Attention with 8 heads of queries for one of keys, heads 64 wide.",
            self.num_threads,
            instruction_set(),
            self.calm()
        )
    }

    /// How busy the machine was with other things.
    fn calm(&self) -> String {
        match self.load {
            Some(load) if load > 0.5 => format!("not calm, other programs ran (load average {load} when it began)"),
            Some(load) => format!("calm (load average {load} when it began)"),
            None => "whether other programs ran is not known".to_owned(),
        }
    }
}

/// The text after a key and its mark.
fn after<'a>(text: &'a str, key: &str, mark: char) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim_start().strip_prefix(mark).map(str::trim)
}

fn memory_bytes(meminfo: &str) -> Option<f64> {
    let kilobytes: f64 = after(meminfo, "MemTotal", ':')?.strip_suffix(" kB")?.parse().ok()?;
    // To 0.1 GB: the kernel keeps a little for itself, more or less.
    Some((kilobytes * 1024.0 / 1e8).round() * 1e8)
}

/// Bytes of the largest cache of the first processor.
fn cache_bytes() -> Option<usize> {
    let sizes = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?.flatten();
    let sizes = sizes.filter_map(|cache| fs::read_to_string(cache.path().join("size")).ok());
    sizes.filter_map(|size| size.trim().strip_suffix('K')?.parse::<usize>().ok()).max().map(|size| size << 10)
}

/// `2026-11-20`: days since 1970 as a date (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Days since 1 March of the year 0, so that the day that may be missing is the last of a year.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_have_dates() {
        let at = |days: u64| date(UNIX_EPOCH + Duration::from_secs(days * 86_400 + 5));
        assert_eq!([at(0), at(59), at(11_016), at(20_777)], ["1970-01-01", "1970-03-01", "2000-02-29", "2026-11-20"]);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(memory_bytes("MemTotal:       24736876 kB\nMemFree: 3 kB\n"), Some(25.3e9));
        assert_eq!(memory_bytes("nothing"), None);
    }
}
