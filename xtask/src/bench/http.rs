//! The least HTTP there is, on one connection, so that the studio is measured and not the client.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub fn open(address: &str) -> Connection {
        let host = address.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).expect("the studio listens");
        stream.set_nodelay(true).expect("a socket of ours");
        Connection { stream: BufReader::new(stream), host }
    }

    /// From the first byte sent to the last received; the status must be a success.
    pub fn time(&mut self, method: &str, path: &str, body: &str) -> (Duration, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        let began = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes()).expect("the studio reads");
        let (status, answer) = self.answer();
        let time = began.elapsed();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        (time, answer)
    }

    fn answer(&mut self) -> (u16, String) {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the studio answers");
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("the studio answers");
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        let body = match length {
            Some(length) => {
                let mut body = vec![0; length];
                self.stream.read_exact(&mut body).expect("the whole answer");
                body
            }
            None => self.chunks(),
        };
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a chunk");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
            let start = body.len();
            body.resize(start + size + 2, 0);
            self.stream.read_exact(&mut body[start..]).expect("a whole chunk");
            body.truncate(start + size);
            if size == 0 {
                return body;
            }
        }
    }
}
