/// Cuts a stream of bytes into lines, at `\n` and at the `\r` of progress bars.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// Throw away what comes before the first line break.
    pub skip_first: bool,
}

/// Longer lines are cut here: nobody reads them, and they would fill the memory.
const LONGEST: usize = 4096;

impl Lines {
    /// Whole lines, without their breaks; empty ones are left out.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let ends = matches!(piece.last(), Some(b'\n' | b'\r'));
            let text = if ends { &piece[..piece.len() - 1] } else { piece };
            let room = LONGEST.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                lines.extend(self.rest());
            }
        }
        lines
    }

    /// What is left when nothing more comes.
    pub fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.partial);
        let skip = std::mem::take(&mut self.skip_first);
        (!skip && !line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_the_bytes_arrive() {
        let text = "erste\n\r\nzweite 你好\rdritte".as_bytes();
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut seen: Vec<String> = text.chunks(size).flat_map(|chunk| lines.feed(chunk)).collect();
            seen.extend(lines.rest());
            assert_eq!(seen, ["erste", "zweite 你好", "dritte"], "in pieces of {size}");
        }
    }

    #[test]
    fn endless_lines_are_cut_and_a_torn_first_line_is_dropped() {
        let mut lines = Lines { skip_first: true, ..Lines::default() };
        assert_eq!(lines.feed(b"torn\nwhole\n"), ["whole"]);
        assert!(lines.feed(&[b'x'; 100_000]).is_empty());
        assert_eq!(lines.feed(b"\n")[0].len(), LONGEST);
    }
}
