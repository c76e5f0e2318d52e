//! Pages for people: every path of the repository and every command that they name exists.

use std::path::Path;

use anyhow::Result;
use clap::CommandFactory;

use super::tidy;
use crate::cli::Cli;
use crate::workspace::Workspace;

/// First folders and files of a path that is ours, as pages write it.
const ROOTS: &[&str] = &["hypervisor/", "platform/", "linker/", "boot/", "xtask/", "tests/"];
/// What stands for a name in a path: the reader puts his own there.
const PLACEHOLDERS: &[&str] = &["NAME", "SCENARIO"];
/// Files that a command makes.
const MADE: &[&str] = &["target/"];

/// Complaints about paths and commands that do not exist.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for name in tidy::files(workspace)? {
        if !name.ends_with(".md") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(workspace.root.join(&name)) else { continue };
        let beside = Path::new(&name).parent().unwrap_or(Path::new(""));
        complaints.extend(judge(&name, &text, &|path| {
            workspace.root.join(path).exists() || workspace.root.join(beside).join(path).exists()
        }));
    }
    Ok(complaints)
}

fn judge(name: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let commands: Vec<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut say = |what: String| complaints.push(format!("{name}:{number}: {what}"));
        for path in paths(line).filter(|path| !exists(path)) {
            say(format!("names {path}, which is not there"));
        }
        for command in line.split("cargo xtask ").skip(1) {
            let word = command.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
            if !word.is_empty() && !commands.iter().any(|known| known == word) {
                say(format!("names the command {word:?}, which is not there"));
            }
        }
    }
    complaints
}

/// The repository's paths in a line: what stands between backticks and begins with a root, up to a
/// `::` or `:` for what is inside the file, and the targets of links. Patterns and placeholders
/// are none.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2).filter_map(|text| {
        let path = text.split(':').next().unwrap_or_default().split_whitespace().next()?;
        ROOTS.iter().any(|root| path.starts_with(root)).then_some(path)
    });
    let linked = line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#']).next()?;
        (!target.is_empty() && !target.contains("://")).then_some(target)
    });
    quoted.chain(linked).filter(|path| {
        let pattern = path.contains(['*', '{', '<', '…'])
            || PLACEHOLDERS.iter().any(|name| path.contains(name));
        !pattern && !MADE.iter().any(|made| path.starts_with(made))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_must_be_there() {
        let judge = |text: &str| judge("a.md", text, &|path| path == "boot/src" || path == "B.md");
        assert!(judge("in `boot/src`, `cargo xtask run hello`, [b](B.md#part), `x/y`").is_empty());
        assert!(judge("`boot/src::start` and `tests/NAME.toml`, https://x.org/a").is_empty());
        assert_eq!(judge("in `boot/gone`").len(), 1);
        assert_eq!(judge("see [c](C.md)").len(), 1);
        assert_eq!(judge("`cargo xtask fly`").len(), 1);
        assert_eq!(judge("`boot/gone`, `boot/src`, `tests/gone.rs::name`").len(), 2);
    }
}
