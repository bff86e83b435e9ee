//! Prompt and output lengths of a benchmark's requests, and when they arrive: from a public request trace.
//!
//! A trace is CSV with a header or JSON lines; its columns are known by the names that the Azure, Vidur, etalon and
//! Mooncake traces use.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::arrivals;

const INPUT_NAMES: &[&str] = &["ContextTokens", "num_prefill_tokens", "input_length", "input_len", "prompt_len"];
const OUTPUT_NAMES: &[&str] = &["GeneratedTokens", "num_decode_tokens", "output_length", "output_len"];
const TIME_NAMES: &[&str] = &["TIMESTAMP", "Timestamp", "timestamp", "arrived_at", "arrival_time"];

/// How long one request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// Prompt tokens, at least 1.
    pub(crate) input: usize,
    /// New tokens, at least 1.
    pub(crate) output: usize,
}

/// Requests taken from a trace.
#[derive(Debug, PartialEq)]
pub(crate) struct TraceLengths {
    /// The first requests that fit, in the order of the trace.
    pub(crate) requests: Vec<Lengths>,
    /// When each of them arrived, in the seconds of the trace's clock, if the trace says so of all.
    pub(crate) arrivals: Option<Vec<f64>>,
    /// How many before them were skipped because they are empty or longer than the model allows.
    pub(crate) num_skipped: usize,
}

/// The first `num_requests` of the trace at `path` that are no longer than `max_model_len` tokens.
pub(crate) fn from_trace(path: &Path, num_requests: usize, max_model_len: usize) -> anyhow::Result<TraceLengths> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the trace {}", path.display()))?;
    let all = read(&text).with_context(|| format!("in the trace {}", path.display()))?;
    let mut taken = TraceLengths { requests: Vec::new(), arrivals: Some(Vec::new()), num_skipped: 0 };
    for Line { lengths, arrival } in all {
        if taken.requests.len() == num_requests {
            break;
        }
        let fits = lengths.input > 0 && lengths.output > 0 && lengths.input + lengths.output <= max_model_len;
        if !fits {
            taken.num_skipped += 1;
            continue;
        }
        taken.requests.push(lengths);
        match (arrival, &mut taken.arrivals) {
            (Some(arrival), Some(arrivals)) => arrivals.push(arrival),
            (None, _) | (_, None) => taken.arrivals = None,
        }
    }
    ensure!(!taken.requests.is_empty(), "no request of {} fits into {max_model_len} tokens", path.display());
    Ok(taken)
}

/// A request as a trace tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    lengths: Lengths,
    /// In seconds.
    arrival: Option<f64>,
}

fn read(text: &str) -> anyhow::Result<Vec<Line>> {
    if text.trim_start().starts_with('{') { read_json_lines(text) } else { read_csv(text) }
}

fn read_json_lines(text: &str) -> anyhow::Result<Vec<Line>> {
    let number = |value: &Value, names: &[&str]| names.iter().find_map(|name| value.get(name)?.as_u64());
    // Traces in JSON lines, Mooncake's and those that follow it, count milliseconds.
    let time = |value: &Value| TIME_NAMES.iter().find_map(|name| Some(value.get(name)?.as_f64()? / 1e3));
    let line = |(index, line): (usize, &str)| {
        let value: Value = serde_json::from_str(line).with_context(|| format!("line {} is not JSON", index + 1))?;
        match (number(&value, INPUT_NAMES), number(&value, OUTPUT_NAMES)) {
            (Some(input), Some(output)) => {
                let lengths = Lengths { input: input as usize, output: output as usize };
                Ok(Line { lengths, arrival: time(&value) })
            }
            _ => bail!("line {} has no lengths; known keys: {INPUT_NAMES:?} and {OUTPUT_NAMES:?}", index + 1),
        }
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
}

fn read_csv(text: &str) -> anyhow::Result<Vec<Line>> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, header) = lines.next().context("the file is empty")?;
    let columns: Vec<&str> = header.split(',').map(str::trim).collect();
    let column = |names: &[&str]| {
        let found = columns.iter().position(|column| names.contains(column));
        found.with_context(|| format!("the header {columns:?} has none of {names:?}"))
    };
    let (input, output) = (column(INPUT_NAMES)?, column(OUTPUT_NAMES)?);
    let time = column(TIME_NAMES).ok();
    let line = |(index, line): (usize, &str)| {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let number = |column: usize| {
            let cell = cells.get(column).copied().unwrap_or_default();
            // Some traces write whole numbers as `1047.0`.
            let number: f64 = cell.parse().with_context(|| format!("line {}: `{cell}` is no length", index + 1))?;
            anyhow::Ok(number as usize)
        };
        let arrival = time.and_then(|column| arrivals::seconds(cells.get(column)?));
        Ok(Line { lengths: Lengths { input: number(input)?, output: number(output)? }, arrival })
    };
    lines.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: [Lengths; 2] = [Lengths { input: 374, output: 44 }, Lengths { input: 5, output: 1 }];

    #[test]
    fn traces_are_known_by_their_names() {
        let told = |text: &str| {
            let (first, second) = (read(text).unwrap()[0], read(text).unwrap()[1]);
            assert_eq!([first.lengths, second.lengths], EXPECTED);
            first.arrival.zip(second.arrival).map(|(first, second)| second - first)
        };
        let azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5,374,44\n2023-11-17 00:00:01,5,1\n";
        assert_eq!(told(azure), Some(1.5));
        assert_eq!(told("num_prefill_tokens,num_decode_tokens,x\n374.0,44,9\n\n5,1,9\n"), None);
        let lines = "{\"timestamp\": 0, \"input_length\": 374, \"output_length\": 44}\n\
                     {\"timestamp\": 3000, \"input_length\": 5, \"output_length\": 1}\n";
        assert_eq!(told(lines), Some(3.0));
    }

    #[test]
    fn mistakes_name_their_line() {
        assert!(format!("{:#}", read("a,b\n1,2").unwrap_err()).contains("has none of"));
        assert!(format!("{:#}", read("input_len,output_len\n1,two").unwrap_err()).contains("line 2"));
        assert!(format!("{:#}", read("{\"input_length\": 3}").unwrap_err()).contains("line 1"));
        assert!(read("").is_err());
    }

    #[test]
    fn requests_that_do_not_fit_are_skipped_and_counted() {
        let path = std::env::temp_dir().join(format!("trefoil-lengths-{}.csv", std::process::id()));
        std::fs::write(&path, "input_len,output_len\n90,20\n0,5\n10,20\n30,20\n40,20\n").unwrap();
        let taken = from_trace(&path, 2, 100).unwrap();
        std::fs::remove_file(&path).unwrap();
        let requests = vec![Lengths { input: 10, output: 20 }, Lengths { input: 30, output: 20 }];
        assert_eq!(taken, TraceLengths { requests, arrivals: None, num_skipped: 2 });
    }
}
