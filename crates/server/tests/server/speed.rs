//! Keeps the figures of the bench honest from day to day: generous bounds, so that only a change of kind trips them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::fixture::{Studio, read_head};

/// One connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    fn get(&mut self, path: &str) -> Duration {
        let started = Instant::now();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        assert!(!self.stream.fill_buf().unwrap().is_empty());
        let (status, headers) = read_head(&mut self.stream);
        assert_eq!(status, 200);
        let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        started.elapsed()
    }
}

pub fn polling_stays_cheap() {
    let studio = Studio::start();
    let stream = TcpStream::connect(studio.address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut client = Client { stream: BufReader::new(stream), host: studio.host() };
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let mut times: Vec<Duration> = (0..2000).map(|_| client.get("/api/system/gpu-info")).collect();
    let gpu_info = median(&mut times);
    println!("gpu-info p50 {gpu_info:?}");
    assert!(gpu_info < Duration::from_millis(5), "{gpu_info:?}");
}
