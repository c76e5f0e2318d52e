//! QEMU's monitor: the host's own view of the machine's physical memory.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A QMP connection. Reads go through a file in the machine's own temporary folder.
#[derive(Debug)]
pub struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    dump: PathBuf,
}

impl Monitor {
    /// Connects, waiting at most `patience` for QEMU to open the socket.
    ///
    /// # Errors
    /// QEMU does not answer in time or does not speak QMP.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self> {
        let end = Instant::now() + patience;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= end => {
                    return Err(error).context("QEMU's monitor does not answer");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let writer = stream.try_clone()?;
        let dump = socket.with_file_name("memory");
        let mut monitor = Self { reader: BufReader::new(stream), writer, dump };
        monitor.line().context("no greeting from QEMU's monitor")?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).context("QEMU's monitor speaks no JSON")
    }

    /// Runs one command and gives its answer. Events in between are dropped.
    ///
    /// # Errors
    /// QEMU refuses the command or is gone.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut text = json!({ "execute": command, "arguments": arguments }).to_string();
        text.push('\n');
        self.writer.write_all(text.as_bytes()).context("QEMU's monitor is closed")?;
        loop {
            let answer = self.line()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
        }
    }

    /// Reads physical memory while the machine runs.
    ///
    /// # Errors
    /// QEMU refuses the range.
    pub fn memory(&mut self, address: u64, length: u64) -> Result<Vec<u8>> {
        let file = self.dump.to_str().context("the temporary folder's name is not UTF-8")?;
        let arguments = json!({ "val": address, "size": length, "filename": file });
        self.execute("pmemsave", arguments)?;
        let bytes = std::fs::read(&self.dump).context("QEMU wrote no memory dump")?;
        if bytes.len() as u64 != length {
            bail!("QEMU dumped {} of {length} bytes at {address:#x}", bytes.len());
        }
        Ok(bytes)
    }

    /// First address and bytes of each memory region of the first device on a PCI bus.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn regions(&mut self, bus: u64) -> Result<Vec<(u64, u64)>> {
        let answer = self.execute("query-pci", json!({}))?;
        Ok(device_on(&answer, bus).map(regions).unwrap_or_default())
    }

    /// Asks QEMU to leave.
    ///
    /// # Errors
    /// QEMU is gone already.
    pub fn quit(&mut self) -> Result<()> {
        self.execute("quit", json!({})).map(|_| ())
    }
}

/// The first device on a bus, wherever in the tree of bridges.
fn device_on(tree: &Value, bus: u64) -> Option<&Value> {
    match tree {
        Value::Object(fields) => {
            let here = fields.get("bus").and_then(Value::as_u64) == Some(bus);
            if here && fields.contains_key("regions") {
                return Some(tree);
            }
            fields.values().find_map(|value| device_on(value, bus))
        }
        Value::Array(values) => values.iter().find_map(|value| device_on(value, bus)),
        _ => None,
    }
}

fn regions(device: &Value) -> Vec<(u64, u64)> {
    let all = device.get("regions").and_then(Value::as_array);
    let one = |region: &Value| {
        let memory = region.get("type").and_then(Value::as_str) == Some("memory");
        let number = |key| region.get(key).and_then(Value::as_u64);
        number("address").zip(number("size")).filter(|_| memory)
    };
    all.into_iter().flatten().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_behind_a_bridge_is_found_with_its_memory() {
        let port = json!({ "type": "memory", "address": 64, "size": 1 });
        let disk = json!({ "type": "memory", "address": 4096, "size": 16384 });
        let behind = json!({ "bus": 1, "slot": 0, "regions": [disk, { "type": "io" }] });
        let bridge = json!({ "bus": 0, "regions": [port], "pci_bridge": { "devices": [behind] } });
        let tree = json!([{ "bus": 0, "devices": [bridge] }]);
        assert_eq!(device_on(&tree, 1).map(regions), Some(vec![(4096, 16384)]));
        assert_eq!(device_on(&tree, 2), None);
    }
}
