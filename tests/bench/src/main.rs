//! `palisade-bench WHO OPERATION`: sets an operation up and runs it once, inside
//! [`measured::region`], which callgrind is told to count. Prints how many units
//! (calls, pages, pairs) the region did.
// Opted in: the peers' tables are reached through raw pointers, as they ask for.
#![allow(unsafe_code)]

mod measured;
mod multiarch;
mod ours;
mod paging;
mod pool;
mod work;

use std::process::ExitCode;

use work::Operation;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(who), Some(operation)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: palisade-bench ours|aarch64-paging|page_table_multiarch OPERATION");
        return ExitCode::FAILURE;
    };
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
