//! The hypervisor's report: one JSON object per line, kept as it came and read by name.

use serde_json::Value;

/// All records of one run in order.
#[derive(Clone, Debug, Default)]
pub struct Records {
    all: Vec<Value>,
    broken: Vec<String>,
}

impl Records {
    /// Takes one line of the report channel.
    pub fn take(&mut self, line: &str) {
        match serde_json::from_str::<Value>(line) {
            Ok(value) if value.get("type").is_some_and(Value::is_string) => self.all.push(value),
            _ if line.trim().is_empty() => {}
            _ => self.broken.push(line.to_owned()),
        }
    }

    /// How many records there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Lines that were no records.
    #[must_use]
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// All records of one type, in order.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.all.iter().filter(move |record| text(record, "type") == Some(kind))
    }

    /// All records of one type after the first `from` records of any type.
    pub fn since<'a>(
        &'a self,
        from: usize,
        kind: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.all.iter().skip(from).filter(move |record| text(record, "type") == Some(kind))
    }

    /// Whether the report is complete.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.of("end").next().is_some()
    }

    /// The last state of a VM ("built", "started", "off", "crashed", "refused").
    #[must_use]
    pub fn vm(&self, name: &str) -> Option<&Value> {
        self.of("vm").rev().find(|record| text(record, "name") == Some(name))
    }

    /// The last word on every VM, in the order of first appearance.
    #[must_use]
    pub fn vms(&self) -> Vec<&Value> {
        let mut last: Vec<&Value> = Vec::new();
        for record in self.of("vm") {
            match last.iter_mut().find(|old| old.get("name") == record.get("name")) {
                Some(old) => *old = record,
                None => last.push(record),
            }
        }
        last
    }

    /// The last word on every stream, in the order of first appearance.
    #[must_use]
    pub fn posture(&self) -> Vec<Value> {
        let mut last: Vec<Value> = Vec::new();
        for record in self.of("posture") {
            let same = |old: &Value| {
                old.get("stream") == record.get("stream")
                    && old.get("device") == record.get("device")
            };
            match last.iter_mut().find(|old| same(old)) {
                Some(old) => *old = record.clone(),
                None => last.push(record.clone()),
            }
        }
        last
    }

    /// Where a guest address lies in the machine's memory, as the report says.
    #[must_use]
    pub fn physical(&self, vm: &str, ipa: u64) -> Option<u64> {
        self.of("ram").filter(|record| text(record, "vm") == Some(vm)).find_map(|record| {
            let offset = ipa.checked_sub(number(record, "ipa")?)?;
            if offset >= number(record, "size")? {
                return None;
            }
            number(record, "pa")?.checked_add(offset)
        })
    }
}

/// A record's field as text.
#[must_use]
pub fn text<'a>(record: &'a Value, field: &str) -> Option<&'a str> {
    record.get(field)?.as_str()
}

/// A record's field as a number: a JSON number, or text such as "0x40000000".
#[must_use]
pub fn number(record: &Value, field: &str) -> Option<u64> {
    match record.get(field)? {
        Value::Number(value) => value.as_u64(),
        Value::String(value) => parse(value),
        _ => None,
    }
}

/// How much a counter grew from one record to a later one.
#[must_use]
pub fn more(before: &Value, after: &Value, counter: &str) -> Option<u64> {
    number(after, counter)?.checked_sub(number(before, counter)?)
}

/// Reads a decimal or 0x number.
#[must_use]
pub fn parse(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_stream_counts() {
        let mut records = Records::default();
        records.take(r#"{"type":"posture","stream":256,"device":"0000:01:00.0","state":"stage2"}"#);
        records.take(r#"{"type":"posture","stream":512,"device":"0000:02:00.0","state":"abort"}"#);
        records.take(r#"{"type":"posture","stream":256,"device":"0000:01:00.0","state":"abort"}"#);
        records.take("{torn");
        let posture = records.posture();
        assert_eq!(posture.len(), 2);
        assert_eq!(text(&posture[0], "state"), Some("abort"));
        assert_eq!(records.broken().len(), 1);
        assert!(!records.ended());
    }

    #[test]
    fn guest_addresses_are_found_in_their_own_vm_only() {
        let mut records = Records::default();
        records.take(r#"{"type":"ram","vm":"a","ipa":1073741824,"pa":"0x50000000","size":4096}"#);
        assert_eq!(records.physical("a", 0x4000_0010), Some(0x5000_0010));
        assert_eq!(records.physical("a", 0x4000_1000), None);
        assert_eq!(records.physical("a", 0x3fff_ffff), None);
        assert_eq!(records.physical("b", 0x4000_0010), None);
    }
}
