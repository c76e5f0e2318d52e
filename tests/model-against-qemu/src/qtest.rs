//! QEMU's test protocol: memory and registers of a machine from outside, one line each.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Requests that may be on their way unanswered: their answers must fit into the socket.
const AHEAD: usize = 1000;
/// A busy host answers within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The connection.
pub struct Qtest {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    text: String,
    unanswered: usize,
}

impl Qtest {
    /// Waits until QEMU connects. `alive` tells in between whether it still may.
    ///
    /// # Errors
    /// It has ended, or does not connect in time.
    pub fn accept(listener: &UnixListener, mut alive: impl FnMut() -> Result<()>) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let end = std::time::Instant::now() + PATIENCE;
        let writer = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => alive()?,
                Err(error) => return Err(error).context("waiting for QEMU"),
            }
            if std::time::Instant::now() > end {
                bail!("QEMU does not connect");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        writer.set_nonblocking(false)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(writer.try_clone()?);
        Ok(Self { reader, writer, text: String::new(), unanswered: 0 })
    }

    /// Sends a request whose answer is only "OK", some time.
    ///
    /// # Errors
    /// QEMU is gone or refuses an earlier request.
    pub fn tell(&mut self, request: &str) -> Result<()> {
        self.text.push_str(request);
        self.text.push('\n');
        self.unanswered += 1;
        if self.unanswered >= AHEAD { self.flush() } else { Ok(()) }
    }

    /// Waits until everything that was told is done.
    ///
    /// # Errors
    /// QEMU is gone or refuses one of them.
    pub fn flush(&mut self) -> Result<()> {
        self.writer.write_all(self.text.as_bytes()).context("QEMU is gone")?;
        self.text.clear();
        while self.unanswered > 0 {
            self.unanswered -= 1;
            self.answer()?;
        }
        Ok(())
    }

    /// Sends requests that are answered with a number each.
    ///
    /// # Errors
    /// QEMU is gone or refuses one of them.
    pub fn ask(&mut self, requests: impl IntoIterator<Item = String>) -> Result<Vec<u64>> {
        self.flush()?;
        let requests: Vec<String> = requests.into_iter().collect();
        let mut numbers = Vec::with_capacity(requests.len());
        for part in requests.chunks(AHEAD) {
            let text = part.join("\n") + "\n";
            self.writer.write_all(text.as_bytes()).context("QEMU is gone")?;
            for request in part {
                let answer = self.answer()?;
                let number = answer.strip_prefix("0x").unwrap_or(&answer);
                let number = u64::from_str_radix(number, 16)
                    .with_context(|| format!("{request}: QEMU answers {answer:?}"))?;
                numbers.push(number);
            }
        }
        Ok(numbers)
    }

    /// `size` bytes of memory.
    ///
    /// # Errors
    /// QEMU is gone, or refuses.
    pub fn bytes(&mut self, address: u64, size: usize) -> Result<Vec<u8>> {
        /// Most at once: an answer must fit into the socket.
        const MOST: usize = 16 << 10;
        self.flush()?;
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let count = MOST.min(size - bytes.len());
            let at = address + bytes.len() as u64;
            self.writer.write_all(format!("read {at:#x} {count:#x}\n").as_bytes())?;
            let answer = self.answer()?;
            let digits = answer.strip_prefix("0x").unwrap_or(&answer);
            if digits.len() != 2 * count || !digits.is_ascii() {
                bail!("QEMU answers {} digits for {count} bytes", digits.len());
            }
            for digits in digits.as_bytes().chunks_exact(2) {
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?);
            }
        }
        Ok(bytes)
    }

    /// One answer, without its "OK".
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).context("QEMU does not answer")?;
        match line.trim_end().strip_prefix("OK") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None if line.is_empty() => bail!("QEMU has ended"),
            None => bail!("QEMU answers {line:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that answers each request by `answer`.
    fn with(answer: fn(&str) -> String) -> Qtest {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let qemu = UnixStream::connect(&path).unwrap();
        std::thread::spawn(move || {
            let mut writer = qemu.try_clone().unwrap();
            for line in BufReader::new(qemu).lines() {
                let text = answer(&line.unwrap());
                if text.is_empty() || writer.write_all(text.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Qtest::accept(&listener, || Ok(())).unwrap()
    }

    #[test]
    fn answers_come_in_the_order_of_requests() {
        let mut qtest = with(|request| match request.split_once(' ') {
            Some(("readq", place)) => format!("OK {place}\n"),
            _ => "OK\n".into(),
        });
        for _ in 0..AHEAD + 3 {
            qtest.tell("writeq 0x1 0x2").unwrap();
        }
        let places = 0..2 * AHEAD as u64 + 1;
        let read = qtest.ask(places.clone().map(|place| format!("readq {place:#x}"))).unwrap();
        assert_eq!(read, places.collect::<Vec<_>>());
    }

    #[test]
    fn what_qemu_refuses_is_told() {
        let mut qtest = with(|_| "FAIL Unknown command 'x'\n".into());
        qtest.tell("x").unwrap();
        let error = qtest.flush().unwrap_err().to_string();
        assert!(error.contains("Unknown command"), "{error}");
    }

    #[test]
    fn a_qemu_that_ends_is_told() {
        let mut qtest = with(|_| String::new());
        let error = qtest.ask(["readl 0x0".into()]).unwrap_err().to_string();
        assert!(error.contains("ended") || error.contains("does not answer"), "{error}");
    }
}
