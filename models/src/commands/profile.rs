//! `trefoil profile`: measures what this machine's device can do, and writes it as a device profile.

mod check;
mod host;
mod made;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use trefoil_passes::profile::Profile;
use trefoil_runtime::device::cpu::CpuDevice;
use trefoil_runtime::measure::{BenchError, Effort, Measured, Needs, Shape, measure};

use crate::args::{DeviceKind, ProfileArgs};
use crate::exit::{CommandError, Exit, OrExit, Outcome};
use host::Host;

/// Begins the `about` of every profile that this command wrote, and so of every one that it may overwrite.
const MEASURED: &str = "Measured by `trefoil profile`";
/// The shape that operators are measured with: heads and widths of a Llama of a billion parameters.
const SHAPE: Shape = Shape { hidden: 2048, ffn: 5632, kv_heads: 4, head: 64 };

/// Runs the command.
pub(crate) fn run(args: &ProfileArgs) -> Outcome {
    if let Some(out) = &args.out {
        may_write(out).or_exit(Exit::Usage)?;
    }
    if let Some(model) = &args.check {
        check::graph_of(model).or_exit(Exit::Invalid)?;
    }
    let host = Host::read();
    let effort = effort(args, &host);
    eprintln!("measuring {}: {}", args.device, effort_told(&effort));
    let (profile, measured) = match args.device {
        DeviceKind::Cpu => profile_cpu(args, &effort, &host)?,
    };
    let text = made::file(&profile);
    eprint!("{}", made::summary(&profile, &measured));
    if let Some(model) = &args.check {
        eprint!("{}", check::against(model, &profile, args)?);
    }
    match &args.out {
        Some(out) => std::fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))?,
        None => print!("{text}"),
    }
    Ok(())
}

fn profile_cpu(args: &ProfileArgs, effort: &Effort, host: &Host) -> Result<(Profile, Measured), CommandError> {
    let num_threads = args.threads.unwrap_or(host.num_threads).max(1);
    let bar = progress_bar();
    let measured = measure::<CpuDevice>(num_threads, effort, &|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let measured = measured.map_err(|error| CommandError { exit: exit(&error), error: error.into() })?;
    let about = format!("{MEASURED} {}", host.about(num_threads, args.quick));
    let profile = made::profile(about, &measured, host.memory_bytes, num_threads as u32);
    // What is written must be a profile.
    let profile = made::read_back(&profile)?;
    Ok((profile, measured))
}

fn exit(error: &BenchError) -> Exit {
    match error {
        BenchError::OutOfMemory(_) => Exit::DoesNotFit,
        BenchError::Stream(_) | BenchError::Fault(_) => Exit::Device,
    }
}

fn effort(args: &ProfileArgs, host: &Host) -> Effort {
    // Going round more than the last cache holds finds none of it there; a twelfth of the memory leaves room, since the
    // four products and the keys go round as much each.
    let wanted = if args.quick { host.cache_bytes * 5 / 4 } else { host.cache_bytes * 2 };
    let cycled_bytes = wanted.clamp(128 << 20, (host.memory_bytes / 12.0).max(64e6) as usize);
    let (rounds, run) = if args.quick { (3, 8) } else { (11, 20) };
    let max_rows = if args.quick { 512 } else { 2048 };
    Effort {
        shape: SHAPE,
        cycled_bytes,
        max_rows,
        max_context: 2048,
        rounds,
        run: Duration::from_millis(run),
        seed: args.seed,
    }
}

fn effort_told(effort: &Effort) -> String {
    let gigabytes = Needs::of(effort).bytes() as f64 / 1e9;
    format!("{} rounds, weights and keys of {gigabytes:.1} GB to go round", effort.rounds)
}

/// Refuses a path that cannot be written, and to overwrite what this command did not write.
fn may_write(out: &Path) -> anyhow::Result<()> {
    if out.exists() {
        let text = std::fs::read_to_string(out).with_context(|| format!("cannot read {}", out.display()))?;
        ensure!(
            text.contains(&format!("about: \"{MEASURED}")),
            "{} was not written by this command, and is not overwritten; remove it first, or choose another --out",
            out.display()
        );
    }
    // Found out now, and not after minutes of measuring.
    let file = std::fs::OpenOptions::new().create(true).append(true).open(out);
    let file = file.with_context(|| format!("cannot write {}", out.display()))?;
    if file.metadata()?.len() == 0 {
        std::fs::remove_file(out)?;
    }
    Ok(())
}

/// A bar on standard error; silent where that is no terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0).with_message("measuring");
    match ProgressStyle::with_template("{msg} {bar:30} {percent} %, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes that say nothing, but quickly.
    fn tiny() -> Effort {
        Effort {
            shape: Shape { hidden: 64, ffn: 96, kv_heads: 2, head: 16 },
            cycled_bytes: 1 << 16,
            max_rows: 64,
            max_context: 128,
            rounds: 2,
            run: Duration::from_micros(300),
            seed: 1,
        }
    }

    #[test]
    fn what_is_measured_is_a_profile() {
        let measured = measure::<CpuDevice>(2, &tiny(), &|_, _| ()).unwrap();
        let profile = made::profile(format!("{MEASURED} in a test"), &measured, 1e9, 2);
        let read = made::read_back(&profile).unwrap_or_else(|error| panic!("{}", error.error));
        assert_eq!(read, profile);
        assert!(!made::summary(&read, &measured).is_empty());
        for operator in ["Linear", "DecodeAttention", "PrefillAttention", "Embed", "KvWrite", "Rope", "*"] {
            assert!(!read.kernel(operator).points().is_empty(), "{operator}");
        }
    }

    #[test]
    fn only_own_profiles_are_overwritten() {
        let folder = std::env::temp_dir().join(format!("trefoil-profile-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (own, other) = (folder.join("own.ron"), folder.join("other.ron"));
        std::fs::write(&own, format!("Device(\n    about: \"{MEASURED} on a Friday\",\n)")).unwrap();
        std::fs::write(&other, "Device(about: \"Specification\")").unwrap();
        assert!(may_write(&own).is_ok());
        assert!(may_write(&other).is_err_and(|error| error.to_string().contains("not overwritten")));
        let new = folder.join("new.ron");
        assert!(may_write(&new).is_ok() && !new.exists());
        assert!(may_write(&folder.join("no/such/folder.ron")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
