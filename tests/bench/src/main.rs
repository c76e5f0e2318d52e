//! `palisade-bench WHO OPERATION`: sets an operation up and runs it once, inside
//! [`measured::region`], which callgrind is told to count. Prints how many units
//! (calls, pages, pairs) the region did. `palisade-bench sharing OPERATION` does it with a guest's
//! calls; `palisade-bench commands OPERATION` prints what its SMMU saw as well.
// Opted in: the peers' tables are reached through raw pointers, as they ask for.
#![allow(unsafe_code)]

mod measured;
mod multiarch;
mod ours;
mod paging;
mod pool;
mod sharing;
mod smmu;
mod work;

use std::process::ExitCode;

use work::Operation;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(who), Some(operation)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: palisade-bench ours|aarch64-paging|page_table_multiarch OPERATION");
        return ExitCode::FAILURE;
    };
    if matches!(who.as_str(), "sharing" | "commands") {
        let Some(sharing::Done { units, seen }) = sharing::run(&operation) else {
            eprintln!("{who} has no such operation");
            return ExitCode::FAILURE;
        };
        if who == "sharing" {
            println!("{units}");
        } else {
            let smmu::Seen { commands, syncs, prod_writes, accesses } = seen;
            println!("{units} {commands} {syncs} {prod_writes} {accesses}");
        }
        return ExitCode::SUCCESS;
    }
    let Some(operation) = Operation::named(&operation) else {
        eprintln!("unknown operation {operation}");
        return ExitCode::FAILURE;
    };
    let units = match who.as_str() {
        "nothing" => work::run(&mut work::Nothing, operation),
        "ours" => work::run(&mut ours::Ours::new(), operation),
        "aarch64-paging" => work::run(&mut paging::Paging::new(), operation),
        "page_table_multiarch" => work::run(&mut multiarch::Multiarch::new(), operation),
        _ => None,
    };
    let Some(units) = units else {
        eprintln!("{who} has no such operation");
        return ExitCode::FAILURE;
    };
    println!("{units}");
    ExitCode::SUCCESS
}
