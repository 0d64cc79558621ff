use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use runner::{Chunk, End, FileFollower};

use crate::fixture::Fixture;

pub async fn appends_are_seen_as_they_come(f: Fixture) {
    let path = f.path("grows");
    let mut follower = FileFollower::open(&path, 0).unwrap();
    let mut late = FileFollower::open(&path, 6).unwrap();
    assert_eq!(follower.read_now().unwrap(), None);

    let next = tokio::spawn(async move { (follower.next().await.unwrap(), follower) });
    tokio::task::yield_now().await;
    let mut file = File::create(&path).unwrap();
    file.write_all(b"first ").unwrap();
    let (chunk, mut follower) = next.await.unwrap();
    assert_eq!(chunk, Chunk { offset: 0, bytes: b"first ".to_vec() });

    let next = tokio::spawn(async move { (follower.next().await.unwrap(), follower) });
    tokio::task::yield_now().await;
    file.write_all(b"second").unwrap();
    let (chunk, mut follower) = next.await.unwrap();
    assert_eq!(chunk, Chunk { offset: 6, bytes: b"second".to_vec() });
    assert_eq!(late.next().await.unwrap(), chunk);
    assert_eq!(follower.read_now().unwrap(), None);

    file.write_all(&[b'x'; 100_000]).unwrap();
    assert_eq!(follower.next().await.unwrap(), Chunk { offset: 12, bytes: vec![b'x'; 65_536] });
    assert_eq!(follower.next().await.unwrap(), Chunk { offset: 65_548, bytes: vec![b'x'; 34_464] });

    file.set_len(0).unwrap();
    assert_eq!(follower.read_now().unwrap(), None, "an empty file has nothing to read again");
}

pub async fn a_capped_log_keeps_its_offsets(f: Fixture) {
    const LINES: u64 = 2 << 20;
    let mut spec = f.spec(&format!("yes 0123456789abcde | head -n {LINES}; echo end"));
    spec.log_cap = 4 << 20;
    f.launcher.launch(&spec).unwrap();
    let record = f.end().await;
    assert_eq!(record.end, End::Exited { exit_code: 0 });

    let log = std::fs::metadata(&spec.log).unwrap();
    let size = LINES * 16 + 4;
    assert_eq!(log.len(), size);
    assert!(log.blocks() * 512 <= spec.log_cap + 8192, "{} bytes on disk", log.blocks() * 512);
    assert!(size - record.lost_log_bytes <= spec.log_cap, "{} lost", record.lost_log_bytes);

    let mut follower = FileFollower::open(&spec.log, 0).unwrap();
    let (mut read, mut holes, mut next) = (Vec::new(), 0, 0);
    while let Some(chunk) = follower.read_now().unwrap() {
        holes += chunk.offset - next;
        next = chunk.offset + chunk.bytes.len() as u64;
        // Every byte is where the task wrote it.
        let line = b"0123456789abcde\n";
        let expected = (chunk.offset..next)
            .map(|at| if at < size - 4 { line[at as usize % 16] } else { b"end\n"[(at + 4 - size) as usize] });
        assert!(expected.eq(chunk.bytes.iter().copied()), "at {}", chunk.offset);
        read.extend(chunk.bytes);
    }
    assert_eq!((holes, next), (record.lost_log_bytes, size));
    assert!(read.len() >= 1 << 20 && holes > 0);
}
