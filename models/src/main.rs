//! The `trefoil` binary: reads the command line, runs one command, and turns its error into a message and an exit code.

mod args;
mod arrivals;
mod candidates;
mod commands;
mod exit;
mod lengths;
mod log;
mod random;
mod source;
mod startup;
mod study;
mod table;

use std::process::ExitCode;

use clap::Parser;

use args::{Command, CommandLine, ServeArgs};

fn main() -> ExitCode {
    let line = CommandLine::parse();
    log::init(line.log_format, &line.log);
    match commands::run(line.command.unwrap_or_else(serve_by_default)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{:#}", failed.error);
            failed.exit.into()
        }
    }
}

/// `trefoil` alone serves the shipped model, with the defaults and environment variables of `serve`.
fn serve_by_default() -> Command {
    #[derive(Parser)]
    struct Serve {
        #[command(flatten)]
        args: ServeArgs,
    }
    Command::Serve(Serve::parse_from(["serve"]).args)
}
