//! Tells that long work goes on: a spinner on a terminal, one line elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shown until dropped.
pub struct Step(ProgressBar);

/// Starts showing a step.
pub fn step(what: &str) -> Step {
    if !std::io::stderr().is_terminal() {
        eprintln!("{what} ...");
        return Step(ProgressBar::hidden());
    }
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    Step(bar)
}

impl Drop for Step {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
