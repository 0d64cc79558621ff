//! Cuts a stream into its examples, without holding more than one.

use std::io::{BufRead, Read};

use super::{DatasetError, unreadable};

/// Bytes that one example may take.
pub(super) const LIMIT: usize = 4 << 20;

/// The text of one example.
pub(super) struct Element<'a> {
    /// Line on which it begins.
    pub line: u64,
    pub text: &'a str,
}

pub(super) struct Elements<R> {
    reader: R,
    layout: Layout,
    /// Line of the next byte, from 1.
    line: u64,
    buffer: Vec<u8>,
}

enum Layout {
    /// One example per line.
    Lines,
    /// A JSON array; its opening bracket is read.
    Array { any: bool },
    /// Everything is read.
    End,
}

impl<R: BufRead> Elements<R> {
    /// Finds out how the examples are laid out.
    pub fn start(reader: R) -> Result<Elements<R>, DatasetError> {
        let mut elements = Elements { reader, layout: Layout::End, line: 1, buffer: Vec::new() };
        elements.skip_byte_order_mark()?;
        elements.layout = match elements.skip_blanks()? {
            None => Layout::End,
            Some(b'{') => Layout::Lines,
            Some(b'[') => {
                elements.reader.consume(1);
                Layout::Array { any: false }
            }
            Some(byte) => return Err(not_json(elements.line, byte)),
        };
        Ok(elements)
    }

    pub fn next(&mut self) -> Result<Option<Element<'_>>, DatasetError> {
        let line = match self.layout {
            Layout::End => return Ok(None),
            Layout::Lines => self.next_line()?,
            Layout::Array { any } => self.next_of_array(any)?,
        };
        let Some(line) = line else {
            self.layout = Layout::End;
            return Ok(None);
        };
        let text = utf8(&self.buffer, line)?;
        Ok(Some(Element { line, text }))
    }

    /// Fills the buffer with the next line that is not blank and answers its number.
    fn next_line(&mut self) -> Result<Option<u64>, DatasetError> {
        loop {
            self.buffer.clear();
            let line = self.line;
            let mut limited = (&mut self.reader).take(LIMIT as u64 + 1);
            if limited.read_until(b'\n', &mut self.buffer).map_err(unreadable)? == 0 {
                return Ok(None);
            }
            if self.buffer.len() > LIMIT {
                return Err(too_long(line));
            }
            self.line += 1;
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// Fills the buffer with the array's next element and answers the line on which it begins.
    fn next_of_array(&mut self, any: bool) -> Result<Option<u64>, DatasetError> {
        match self.skip_blanks()? {
            None => return Err(unfinished(self.line)),
            Some(b']') if !any => {
                self.reader.consume(1);
                return self.end_of_array();
            }
            Some(_) => {}
        }
        self.buffer.clear();
        let line = self.line;
        match self.take_element()? {
            b',' => self.layout = Layout::Array { any: true },
            _ if self.buffer.trim_ascii().is_empty() => {}
            _ => {
                self.end_of_array()?;
                self.layout = Layout::End;
            }
        }
        if self.buffer.trim_ascii().is_empty() {
            return Err(DatasetError::new(
                line,
                "syntax",
                "逗号前后缺少样本。请删除多余的逗号".into(),
                "an example is missing beside a comma. Remove the comma that is too many".into(),
            ));
        }
        Ok(Some(line))
    }

    /// Copies bytes up to the comma or bracket that ends the element, which is consumed and answered.
    fn take_element(&mut self) -> Result<u8, DatasetError> {
        let begin = self.line;
        let (mut depth, mut in_string, mut escaped) = (0u32, false, false);
        loop {
            let bytes = self.reader.fill_buf().map_err(unreadable)?;
            if bytes.is_empty() {
                return Err(self.fault_before(unfinished(self.line), begin));
            }
            let end = bytes.iter().position(|&byte| {
                self.line += u64::from(byte == b'\n');
                if in_string {
                    in_string = escaped || byte != b'"';
                    escaped = !escaped && byte == b'\\';
                    return false;
                }
                match byte {
                    b'"' => in_string = true,
                    b',' | b']' if depth == 0 => return true,
                    b'[' | b'{' => depth += 1,
                    b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                false
            });
            let taken = end.unwrap_or(bytes.len());
            self.buffer.extend_from_slice(&bytes[..taken]);
            let ended_by = end.map(|end| bytes[end]);
            self.reader.consume(taken + usize::from(end.is_some()));
            if self.buffer.len() > LIMIT {
                return Err(self.fault_before(too_long(begin), begin));
            }
            if let Some(byte) = ended_by {
                return Ok(byte);
            }
        }
    }

    /// An element that has no end is most likely wrong somewhere inside: then that is the fault to tell.
    fn fault_before(&self, fault: DatasetError, begin: u64) -> DatasetError {
        match utf8(&self.buffer, begin).map(|text| super::rows::json(&Element { line: begin, text })) {
            Ok(Err(inside)) if inside.code == "syntax" => inside,
            Err(not_utf8) => not_utf8,
            _ => fault,
        }
    }

    fn end_of_array(&mut self) -> Result<Option<u64>, DatasetError> {
        match self.skip_blanks()? {
            None => Ok(None),
            Some(_) => Err(DatasetError::new(
                self.line,
                "syntax",
                "数组结束之后还有内容。请把所有样本放在同一个数组中".into(),
                "there is more after the end of the array. Put all examples into one array".into(),
            )),
        }
    }

    /// The next byte that is no blank, which is left unread.
    fn skip_blanks(&mut self) -> Result<Option<u8>, DatasetError> {
        loop {
            let bytes = self.reader.fill_buf().map_err(unreadable)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let blanks = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.line += bytes[..blanks].iter().filter(|byte| **byte == b'\n').count() as u64;
            let next = bytes.get(blanks).copied();
            self.reader.consume(blanks);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn skip_byte_order_mark(&mut self) -> Result<(), DatasetError> {
        let bytes = self.reader.fill_buf().map_err(unreadable)?;
        match bytes {
            [0xef, 0xbb, 0xbf, ..] => self.reader.consume(3),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err(not_utf8(1)),
            _ => {}
        }
        Ok(())
    }
}

fn utf8(bytes: &[u8], line: u64) -> Result<&str, DatasetError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        not_utf8(line + before.iter().filter(|byte| **byte == b'\n').count() as u64)
    })
}

fn not_utf8(line: u64) -> DatasetError {
    DatasetError::new(
        line,
        "not-utf8",
        "不是 UTF-8 编码。请将文件另存为 UTF-8".into(),
        "the text is not UTF-8. Save the file as UTF-8".into(),
    )
}

fn not_json(line: u64, byte: u8) -> DatasetError {
    let start = char::from(byte).escape_default();
    DatasetError::new(
        line,
        "not-json",
        format!("不是 JSON（以 {start} 开头）。请使用 JSON 数组，或每行一个 JSON 对象"),
        format!("this is not JSON (it begins with {start}). Use a JSON array, or one JSON object per line"),
    )
}

fn too_long(line: u64) -> DatasetError {
    DatasetError::new(
        line,
        "too-long",
        "样本超过 4 MiB。请拆分为更短的样本".into(),
        "the example takes more than 4 MiB. Split it into shorter ones".into(),
    )
}

fn unfinished(line: u64) -> DatasetError {
    DatasetError::new(
        line,
        "unfinished",
        "文件在数组结束之前中断。请重新上传完整的文件".into(),
        "the file ends before its array does. Upload the complete file again".into(),
    )
}
