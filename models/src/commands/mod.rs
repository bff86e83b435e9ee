//! The commands, a file each.

mod analyze;
mod bench;
mod check;
mod dump;
mod explain;
mod generate;
mod new_model;
mod paper;
mod profile;
mod search;
mod serve;
mod simulate;
mod simulate_serving;

use crate::args::{Bench, Command};
use crate::exit::Outcome;

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Outcome {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Check(args) => check::run(&args),
        Command::NewModel(args) => new_model::run(&args),
        Command::Analyze(args) => analyze::run(&args),
        Command::Paper(args) => paper::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::SimulateServing(args) => simulate_serving::run(&args),
        Command::Bench { bench: Bench::Throughput(args) } => bench::throughput(&args),
    }
}
