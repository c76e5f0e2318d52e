//! The paths that a Rust file takes from its own crate, read as text.

/// One name that a file takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// What the file calls it.
    pub name: String,
    /// Where it is, from the crate's root.
    pub path: Vec<String>,
}

/// The module of a file, from its path below `src`.
pub fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    let last = parts.last().map(String::as_str);
    if matches!(last, Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// Every path of the crate itself that a file names, outside its tests. `is_module` says whether
/// a path is a module's.
pub fn imports(
    text: &str,
    module: &[String],
    is_module: &dyn Fn(&[String]) -> bool,
) -> Vec<Import> {
    let tokens = tokens(&without_tests(&without_texts(text)));
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let behind_path = at > 0 && tokens.get(at - 1).is_some_and(|token| token == "::");
        let used = at > 0 && tokens.get(at - 1).is_some_and(|token| token == "use");
        let starts = match token.as_str() {
            "crate" | "super" | "self" => tokens.get(at + 1).is_some_and(|next| next == "::"),
            _ if used => is_module(&[module, std::slice::from_ref(token)].concat()),
            _ => false,
        };
        if starts && !behind_path {
            at = tree(&tokens, at, &mut Vec::new(), module, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads a path or a tree of paths; returns where it ends.
fn tree(
    tokens: &[String],
    mut at: usize,
    path: &mut Vec<String>,
    module: &[String],
    found: &mut Vec<Import>,
) -> usize {
    let depth = path.len();
    while let Some(token) = tokens.get(at) {
        if token == "{" {
            at += 1;
            while let Some(token) = tokens.get(at).filter(|token| *token != "}") {
                at = if token == "," { at + 1 } else { tree(tokens, at, path, module, found) };
            }
            path.truncate(depth);
            return at + 1;
        }
        path.push(token.clone());
        at += 1;
        if tokens.get(at).is_some_and(|next| next == "::")
            && tokens.get(at + 1).is_some_and(|next| next == "{" || is_name(next))
        {
            at += 1;
            continue;
        }
        break;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if tokens.get(at).is_some_and(|next| next == "as") {
        name = tokens.get(at + 1).cloned().unwrap_or_default();
        at += 2;
    }
    found.push(Import { name, path: absolute(path, module) });
    path.truncate(depth);
    at
}

fn is_name(token: &str) -> bool {
    token == "*" || token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The path from the crate's root.
fn absolute(path: &[String], module: &[String]) -> Vec<String> {
    let mut whole = module.to_vec();
    for (index, part) in path.iter().enumerate() {
        match part.as_str() {
            "crate" if index == 0 => whole.clear(),
            "super" => drop(whole.pop()),
            "self" | "*" => {}
            _ => whole.push(part.clone()),
        }
    }
    whole
}

/// Names, `::` and single signs.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        if sign.is_alphanumeric() || sign == '_' {
            word.push(sign);
            continue;
        }
        if !word.is_empty() {
            tokens.push(std::mem::take(&mut word));
        }
        match sign {
            ':' if signs.peek() == Some(&':') => {
                signs.next();
                tokens.push("::".into());
            }
            _ if sign.is_whitespace() => {}
            _ => tokens.push(sign.into()),
        }
    }
    tokens.extend(Some(word).filter(|word| !word.is_empty()));
    tokens
}

/// The text without comments, strings and characters.
fn without_texts(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let end = if rest.starts_with("r\"") { "\"" } else { "\"#" };
            let start = end.len() + 1;
            let length = rest.get(start..).and_then(|body| body.find(end));
            length.map_or(rest.len(), |length| start + length + end.len())
        } else if first == '"' {
            string_end(rest)
        } else if let Some(length) = character(rest) {
            length
        } else {
            kept.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or("");
            continue;
        };
        kept.push(' ');
        rest = rest.get(skipped..).unwrap_or("");
    }
    kept
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, sign) in text.char_indices().skip(1) {
        match sign {
            '"' if !escaped => return index + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The length of a character literal; none for a lifetime.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let mut signs = body.char_indices();
    match signs.next()?.1 {
        '\\' => body.char_indices().skip(2).find(|(_, sign)| *sign == '\'').map(|(at, _)| at + 2),
        _ => signs.next().filter(|(_, sign)| *sign == '\'').map(|(at, _)| at + 2),
    }
}

/// The text without modules that are compiled for tests only.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, after) = rest.split_at(at);
        kept.push_str(before);
        let open = after.find('{').unwrap_or(after.len());
        let end = after.find(';').unwrap_or(after.len());
        if end < open {
            rest = after.get(end + 1..).unwrap_or("");
            continue;
        }
        let mut depth = 0_usize;
        let mut close = after.len();
        for (index, sign) in after.char_indices().skip(open) {
            match sign {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                close = index + 1;
                break;
            }
        }
        rest = after.get(close..).unwrap_or("");
    }
    kept.push_str(rest);
    kept
}
