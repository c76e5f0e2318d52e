//! Builds, runs, tests and measures Palisade. `cargo xtask help` lists the commands.
#![forbid(unsafe_code)]

mod bench;
mod boards;
mod bundle;
mod card;
mod cli;
mod debian;
mod esp;
mod guard;
mod image;
mod lint;
mod progress;
mod run;
mod setup;
mod size;
mod test;
mod unpack;
mod vectors;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    // The guard is no command for people: it becomes QEMU.
    if let Some(status) = guard::intercept() {
        return status;
    }
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    if ctrlc::set_handler(palisade_e2e::interrupt::ask).is_err() {
        eprintln!("warning: Ctrl-C cannot be caught here");
    }
    match cli.command {
        Command::Run(options) => run::run(&options),
        Command::Test(options) => test::test(&options),
        Command::Bench(options) => bench::bench(&options),
        Command::Vectors(options) => vectors::vectors(&options),
        Command::Bundle(options) => bundle::command(&options),
        Command::Image(options) => card::command(&options),
        Command::Boards(options) => boards::command(&options),
        Command::Lint => lint::lint(),
        Command::Size => size::size(),
        Command::Setup(options) => setup::setup(&options),
    }
}
