use std::fs;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use recipes::dataset::{self, Conversation, DatasetError, Format, Preference, Role, Turn};

fn conversation(turns: &[(Role, &str)]) -> Conversation {
    Conversation { turns: turns.iter().map(|(role, text)| Turn { role: *role, content: text.to_string() }).collect() }
}

fn parse(text: impl AsRef<[u8]>) -> Result<Vec<Conversation>, DatasetError> {
    let whole = dataset::parse(text.as_ref());
    // However the stream is cut into reads, the outcome is the same.
    let bytewise = dataset::parse(BufReader::with_capacity(3, text.as_ref()));
    assert_eq!(whole, bytewise);
    whole
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>, line: impl Into<Option<u64>>, code: &str) -> DatasetError {
    let error = parse(text).expect_err("must be refused");
    assert_eq!((error.line, error.code), (line.into(), code), "{error}");
    assert!(error.to_string().contains(". "), "the reason and then what to do: {error}");
    if let Some(line) = error.line {
        assert!(error.to_string().starts_with(&format!("line {line}: ")));
        assert!(error.message_zh().starts_with(&format!("第 {line} 行：")));
    }
    error
}

use Role::{Assistant, System, User};

#[test]
fn the_three_formats_mean_the_same() {
    let expected = [conversation(&[(System, "Be brief."), (User, "1+1?"), (Assistant, "2")])];
    for text in [
        r#"{"system":"Be brief.","instruction":"1+1?","input":"","output":"2"}"#,
        r#"{"conversations":[{"from":"system","value":"Be brief."},{"from":"human","value":"1+1?"},{"from":"gpt","value":"2"}]}"#,
        r#"{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"1+1?"},{"role":"assistant","content":"2"}]}"#,
        r#"{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"1+"},{"type":"text","text":"1?"}]},{"role":"assistant","content":"2"}]}"#,
    ] {
        for layout in [
            text.to_owned(),
            format!("{text}\n"),
            format!("\u{feff}\r\n \n{text}\r\n\r\n"),
            format!("[{text}]"),
            format!("\u{feff} [\n  {text}\n]\n\n"),
        ] {
            assert_eq!(parse(&layout).unwrap(), expected, "{layout}");
        }
    }
}

#[test]
fn alpaca_joins_the_input_and_keeps_the_history() {
    let text = r#"[{"instruction":"Translate.","input":"Hallo","output":"Hello","history":[["q","a"]]},
        {"instruction":"","input":"only","output":" spaced ","system":null}, {"instruction":"x","output":"y","input":null}]"#;
    let expected = [
        conversation(&[(User, "q"), (Assistant, "a"), (User, "Translate.\nHallo"), (Assistant, "Hello")]),
        conversation(&[(User, "only"), (Assistant, " spaced ")]),
        conversation(&[(User, "x"), (Assistant, "y")]),
    ];
    assert_eq!(parse(text).unwrap(), expected);
}

#[test]
fn strings_with_brackets_quotes_and_escapes_do_not_end_an_example() {
    let tricky = r#"]},[{\" \\ \u4f60好 , \\\" \\"#;
    let row = format!(r#"{{"instruction":"{tricky}","output":"a\nb","meta":[1,{{"k":["]"]}}]}}"#);
    let rows = parse(format!("[{row},{row} ,\n{row}]")).unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2].turns[0].content, r#"]},[{" \ 你好 , \" \"#);
    assert_eq!(rows[0].turns[1].content, "a\nb");
}

#[test]
fn faults_are_told_with_their_line_and_a_next_step() {
    let good = r#"{"instruction":"q","output":"a"}"#;
    let on_line_3 = |row: &str| format!("{good}\n\n{row}\n{good}\n");

    refused("", None, "empty");
    refused(" \n\t\n", None, "empty");
    refused("[]", None, "empty");
    refused("instruction,output\na,b\n", 1, "not-json");
    refused("\n\n\"text\"", 3, "not-json");
    refused(on_line_3("[1]"), 3, "wrong-type");
    refused(on_line_3("{"), 3, "cut-off");
    refused(on_line_3(r#"{"instruction":"q","output":a}"#), 3, "syntax");
    refused(on_line_3(&format!("{good}{good}")), 3, "syntax");
    refused(on_line_3(r#"{"question":"q","answer":"a"}"#), 3, "unknown-format");
    refused(on_line_3("{}"), 3, "unknown-format");
    let error = refused(on_line_3(r#"{"instruction":"q"}"#), 3, "missing-field");
    assert!(error.en.contains("output") && error.zh.contains("output"));
    let error = refused(on_line_3(r#"{"output":"a"}"#), 3, "missing-field");
    assert!(error.en.contains("instruction"));
    refused(on_line_3(r#"{"instruction":"q","output":5}"#), 3, "wrong-type");
    refused(on_line_3(r#"{"instruction":"q","output":" \n"}"#), 3, "empty-answer");
    refused(on_line_3(r#"{"instruction":" ","output":"a"}"#), 3, "empty-question");
    refused(on_line_3(r#"{"instruction":"q","output":"a","history":[["q"]]}"#), 3, "wrong-type");
    refused(on_line_3(r#"{"messages":[{"role":"user","content":"q"}]}"#), 3, "mixed-formats");

    refused(r#"{"messages":[]}"#, 1, "no-answer");
    refused(r#"{"messages":[{"role":"user","content":"q"}]}"#, 1, "no-answer");
    refused(r#"{"messages":"q"}"#, 1, "wrong-type");
    refused(r#"{"messages":["q"]}"#, 1, "wrong-type");
    refused(r#"{"messages":[{"role":"tool","content":"q"}]}"#, 1, "unknown-role");
    refused(r#"{"messages":[{"role":"user"}]}"#, 1, "missing-field");
    refused(r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#, 1, "wrong-type");
    refused(r#"{"messages":[{"role":"assistant","content":""}]}"#, 1, "empty-answer");
    refused(r#"{"messages":[{"role":"user","content":"q"},{"role":"system","content":"s"}]}"#, 1, "system-not-first");
    refused(r#"{"conversations":[{"from":"human","value":null}]}"#, 1, "wrong-type");
}

#[test]
fn faults_in_arrays_have_their_own_line_too() {
    let good = r#"{"instruction":"q","output":"a"}"#;
    refused(format!("[\n{good},\n{{\n\"instruction\":\"q\",\n\"output\":bad\n}}]"), 5, "syntax");
    refused(format!("[{good},\n{good}"), 2, "unfinished");
    refused("[\n", 2, "unfinished");
    refused(format!("[{good},\n]"), 2, "syntax");
    refused(format!("[{good},\n,{good}]"), 2, "syntax");
    refused(format!("[{good}]\n{good}"), 2, "syntax");
    refused(format!("[{good} {good}]"), 1, "syntax");
    // A string that is never closed swallows the rest; the fault is still where it is.
    refused(format!("[{good},\n{{\"instruction\":\"q,\n\"output\":\"a\"}},\n{good}]"), 2, "syntax");
}

#[test]
fn text_must_be_utf8() {
    let row = br#"{"instruction":"q","output":"a"}"#;
    let bad = b"{\"instruction\":\"\xff\",\"output\":\"a\"}";
    refused([&row[..], b"\n", bad].concat(), 2, "not-utf8");
    refused([b"[".as_slice(), row, b",\n\n", bad, b"]"].concat(), 3, "not-utf8");
    refused(b"\xff\xfe[\0", 1, "not-utf8");
}

#[test]
fn an_example_has_limits() {
    let row = |length: usize| format!(r#"{{"instruction":"q","output":"{}"}}"#, "x".repeat(length));
    let most = (4 << 20) - row(0).len() - 1;
    assert_eq!(dataset::parse(format!("{}\n", row(most)).as_bytes()).unwrap().len(), 1);
    for text in [row(most + 2), format!("[{}]", row(most + 2))] {
        let error = dataset::parse(text.as_bytes()).unwrap_err();
        assert_eq!((error.line, error.code), (Some(1), "too-long"));
    }
    let nested =
        |depth: usize| format!(r#"{{"instruction":"q","output":"a","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(parse(nested(100)).unwrap().len(), 1);
    refused(nested(200), 1, "too-deep");
    refused(format!("[{}]", nested(100_000)), 1, "too-deep");
}

/// A file that never ends: whoever wants to hold it in memory will notice.
struct Endless {
    pattern: &'static [u8],
    at: usize,
    left: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.left);
        for byte in &mut buffer[..count] {
            *byte = self.pattern[self.at];
            self.at = (self.at + 1) % self.pattern.len();
        }
        self.left -= count;
        Ok(count)
    }
}

#[test]
fn an_endless_line_or_element_is_refused_long_before_its_end() {
    for (start, pattern) in [("{\"a\":\"", b"x"), ("[{\"a\":\"", b"x"), ("[[", b"[")] {
        let mut endless = Endless { pattern, at: 0, left: 1 << 40 };
        let reader = BufReader::with_capacity(64 << 10, start.as_bytes().chain(&mut endless));
        let error = dataset::parse(reader).unwrap_err();
        assert!(["too-long", "too-deep"].contains(&error.code), "{error}");
        assert!((1usize << 40) - endless.left < 5 << 20, "read {} bytes", (1usize << 40) - endless.left);
    }
}

fn file(name: &str, content: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sage-dataset-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_check_reports_what_is_in_the_file() {
    let long = "长".repeat(1000);
    let mut rows: Vec<String> = (0..20).map(|n| format!(r#"{{"instruction":"q{n}","output":"{long}"}}"#)).collect();
    rows.push(rows[0].clone());
    let path = file("data.JSONL", &rows.join("\n"));
    let report = dataset::check(&path).unwrap();
    assert_eq!((report.format, report.examples), (Format::Alpaca, 21));
    assert_eq!(report.bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(report.preview.len(), 3);
    assert_eq!(report.preview[1].0, "q1");
    assert_eq!(report.preview[1].1.chars().count(), 301);
    let codes: Vec<&str> = report.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["duplicate-examples"]);
    assert_eq!(dataset::read(&path).unwrap().len(), 21);

    let path = file("few.json", r#"[{"messages":[{"role":"assistant","content":"hi"}]}]"#);
    let report = dataset::check(&path).unwrap();
    assert_eq!(report.format, Format::Messages);
    assert_eq!(report.preview, [("".to_owned(), "hi".to_owned())]);
    let codes: Vec<&str> = report.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["few-examples", "begins-with-answer"]);
}

#[test]
fn files_that_cannot_be_read_say_why() {
    assert_eq!(dataset::check(&file("data.csv", "a,b")).unwrap_err().code, "wrong-extension");
    assert_eq!(dataset::read(&file("data", "[]")).unwrap_err().code, "wrong-extension");
    assert_eq!(dataset::read(&PathBuf::from("/nonexistent/x.json")).unwrap_err().code, "unreadable");
    let folder = file("x.json", "").parent().unwrap().join("folder.json");
    fs::create_dir_all(&folder).unwrap();
    assert_eq!(dataset::read(&folder).unwrap_err().code, "unreadable");
}

#[test]
fn preferences_are_read_in_their_usual_forms() {
    let turn = |role, content: &str| Turn { role, content: content.into() };
    let expected = |prompt: Vec<Turn>| Preference { prompt, chosen: "4".into(), rejected: "5".into() };
    let plain = expected(vec![turn(User, "2+2?")]);
    let answers =
        r#""chosen": [{"role": "assistant", "content": "4"}], "rejected": [{"role": "assistant", "content": "5"}]"#;
    let whole = |answer: &str| {
        format!(r#"[{{"role": "user", "content": "2+2?"}}, {{"role": "assistant", "content": "{answer}"}}]"#)
    };
    let forms = [
        r#"{"prompt": "2+2?", "chosen": "4", "rejected": "5"}"#.into(),
        r#"{"instruction": "2+2?", "input": "", "chosen": "4", "rejected": "5"}"#.into(),
        format!(r#"{{"prompt": [{{"role": "user", "content": "2+2?"}}], {answers}}}"#),
        format!(r#"{{"chosen": {}, "rejected": {}}}"#, whole("4"), whole("5")),
        r#"{"conversations": [{"from": "human", "value": "2+2?"}], "chosen": {"from": "gpt", "value": "4"}, "rejected": {"from": "gpt", "value": "5"}}"#.into(),
    ];
    for form in forms {
        let path = file("preferences.jsonl", &form);
        assert_eq!(dataset::read_preferences(&path).unwrap(), std::slice::from_ref(&plain), "{form}");
        let report = dataset::check(&path).unwrap();
        assert_eq!((report.format, report.preview[0].clone()), (Format::Preference, ("2+2?".into(), "4".into())));
        assert_eq!(dataset::read(&path).unwrap_err().code, "preference-data");
    }
    let with_system = r#"{"system": "Be brief.", "prompt": "2+2?", "chosen": "4", "rejected": "5"}"#;
    let read = dataset::read_preferences(&file("preferences.jsonl", with_system)).unwrap();
    assert_eq!(read, [expected(vec![turn(System, "Be brief."), turn(User, "2+2?")])]);

    let refused = |text: &str| {
        let error = dataset::read_preferences(&file("preferences.jsonl", text)).unwrap_err();
        assert_eq!(error.line, Some(1));
        error.code
    };
    assert_eq!(refused(r#"{"chosen": "4", "rejected": "5"}"#), "no-prompt");
    assert_eq!(refused(&format!(r#"{{"chosen": {}, "rejected": "5"}}"#, whole("4"))), "no-prompt");
    assert_eq!(
        refused(r#"{"prompt": "2+2?", "chosen": "4", "rejected": [{"role": "user", "content": "5"}]}"#),
        "no-answer"
    );
    assert_eq!(refused(r#"{"prompt": "2+2?", "chosen": "4", "rejected": 5}"#), "wrong-type");
    assert_eq!(refused(r#"{"instruction": "2+2?", "output": "4"}"#), "no-preference");
}
