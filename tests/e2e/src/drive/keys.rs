//! What the operator's keys mean: the guest's, unless Ctrl-A comes before, or the hypervisor's
//! prompt is open.

/// Ctrl-A: then x leaves, o opens or closes the prompt, and Ctrl-A is the guest's.
pub const ESCAPE: u8 = 1;
/// Longest line of the prompt.
const LONGEST: usize = 160;

/// What comes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A byte for the guest.
    Guest(u8),
    /// The operator leaves.
    Leave,
    /// A line for the hypervisor's prompt.
    Line(Vec<u8>),
    /// Something to show the operator.
    Show(String),
}

/// The keys so far.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    escaped: bool,
    /// The prompt's line, while it is open.
    line: Option<Vec<u8>>,
}

impl Keys {
    /// Takes one key.
    pub fn take(&mut self, key: u8) -> Option<Meaning> {
        let escaped = self.escaped;
        self.escaped = key == ESCAPE && !escaped;
        match (escaped, key) {
            (true, b'x') => return Some(Meaning::Leave),
            (true, b'o') => return Some(self.turn()),
            (false, ESCAPE) => return None,
            _ => {}
        }
        let Some(line) = &mut self.line else { return Some(Meaning::Guest(key)) };
        match key {
            b'\r' | b'\n' if line.is_empty() => Some(self.turn()),
            b'\r' | b'\n' => Some(Meaning::Line(std::mem::take(line))),
            0x08 | 0x7f => line.pop().map(|_| Meaning::Show("\x08 \x08".to_owned())),
            b' '..=b'~' if line.len() < LONGEST => {
                line.push(key);
                Some(Meaning::Show(char::from(key).to_string()))
            }
            _ => None,
        }
    }

    /// Opens or closes the prompt.
    fn turn(&mut self) -> Meaning {
        self.line = if self.line.is_some() { None } else { Some(Vec::new()) };
        Meaning::Show(match self.line {
            Some(_) => "\noperator (help lists the commands; an empty line ends this)> ".to_owned(),
            None => "\nthe guest's console\n".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(keys: &mut Keys, text: &[u8]) -> Vec<Meaning> {
        let meanings = text.iter().filter_map(|key| keys.take(*key));
        meanings.filter(|meaning| !matches!(meaning, Meaning::Show(_))).collect()
    }

    fn guest(text: &[u8]) -> Vec<Meaning> {
        text.iter().map(|key| Meaning::Guest(*key)).collect()
    }

    #[test]
    fn keys_are_the_guests_but_for_the_escape() {
        let mut keys = Keys::default();
        assert_eq!(all(&mut keys, b"xo\r\x1d"), guest(b"xo\r\x1d"));
        assert_eq!(all(&mut keys, b"\x01\x01x"), guest(b"\x01x"));
        assert_eq!(all(&mut keys, b"\x01z"), guest(b"z"));
        assert_eq!(all(&mut keys, b"\x01x"), [Meaning::Leave]);
    }

    #[test]
    fn the_prompt_takes_lines_until_an_empty_one_or_the_escape() {
        for end in [b"\r".as_slice(), b"\x01o"] {
            let mut keys = Keys::default();
            let typed = all(&mut keys, b"\x01ovmx\x7fs\rstats\r");
            assert_eq!(typed, [b"vms".to_vec(), b"stats".to_vec()].map(Meaning::Line));
            assert_eq!(all(&mut keys, end), []);
            assert_eq!(all(&mut keys, b"ls\r"), guest(b"ls\r"));
        }
    }
}
