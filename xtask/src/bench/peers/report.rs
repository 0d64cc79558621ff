//! Figures as they come in, and the tables they make.

use std::fs;

use serde_json::json;

/// One figure of one peer.
#[derive(Debug, Clone)]
pub struct Cell {
    pub row: &'static str,
    /// As people read it.
    pub text: String,
    /// For the comparison; `None`: it cannot be compared.
    pub value: Option<f64>,
    /// Mean number of runnable processes over the last minute, when the figure was taken.
    load: f64,
}

impl Cell {
    pub fn new(row: &'static str, value: f64, unit: &str) -> Cell {
        Cell { value: Some(value), ..Cell::said(row, format!("{} {unit}", number(value)).trim_end()) }
    }

    pub fn said(row: &'static str, text: impl Into<String>) -> Cell {
        Cell { row, text: text.into(), value: None, load: load() }
    }

    /// How good what was said is.
    pub fn worth(self, value: f64) -> Cell {
        Cell { value: Some(value), ..self }
    }

    pub fn beyond_comparison(self) -> Cell {
        Cell { value: None, ..self }
    }

    pub fn note(self, note: &str) -> Cell {
        Cell { text: format!("{} {note}", self.text).trim_end().into(), ..self }
    }
}

/// A row's name, and whether less is better.
pub struct Row(pub &'static str, pub Better);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
}

#[derive(Default)]
pub struct Report {
    columns: Vec<(String, Vec<Cell>)>,
    missing: Vec<(String, String)>,
}

impl Report {
    pub fn add(&mut self, title: &str, cells: Vec<Cell>) {
        for cell in &cells {
            eprintln!("  {}: {} [{:.1}]", cell.row, cell.text, cell.load);
        }
        match self.columns.iter_mut().find(|(name, _)| name == title) {
            Some((_, known)) => known.extend(cells),
            None => self.columns.push((title.to_owned(), cells)),
        }
    }

    /// A peer that could not be measured.
    pub fn missing(&mut self, title: &str, reason: &str) {
        self.missing.push((title.to_owned(), reason.to_owned()));
    }

    /// Markdown; the best of a row is bold, the load stands in brackets.
    pub fn table(&self, rows: &[Row]) -> String {
        let mut lines = vec![
            format!("| | {} |", self.columns.iter().map(|(title, _)| title.as_str()).collect::<Vec<_>>().join(" | ")),
            format!("|{}", " --- |".repeat(self.columns.len() + 1)),
        ];
        for Row(row, better) in rows {
            let cells: Vec<Option<&Cell>> =
                self.columns.iter().map(|(_, cells)| cells.iter().find(|cell| cell.row == *row)).collect();
            let values = cells.iter().flatten().filter_map(|cell| cell.value);
            let best = match better {
                Better::Less => values.min_by(f64::total_cmp),
                Better::More => values.max_by(f64::total_cmp),
            };
            let cells = cells.into_iter().map(|cell| match cell {
                None => "–".into(),
                Some(cell) if cell.value.is_some() && cell.value == best => {
                    format!("**{}** [{:.1}]", cell.text, cell.load)
                }
                Some(cell) => format!("{} [{:.1}]", cell.text, cell.load),
            });
            lines.push(format!("| {row} | {} |", cells.collect::<Vec<String>>().join(" | ")));
        }
        for (title, reason) in &self.missing {
            lines.push(format!("\nnot measured: {title}: {reason}"));
        }
        lines.join("\n") + "\n"
    }

    pub fn json(&self) -> String {
        let figures = self.columns.iter().flat_map(|(peer, cells)| {
            cells.iter().map(move |cell| {
                json!({ "peer": peer, "row": cell.row, "text": cell.text, "value": cell.value, "load": cell.load })
            })
        });
        let missing = self.missing.iter().map(|(peer, reason)| json!({ "peer": peer, "missing": reason }));
        let lines: Vec<_> = figures.chain(missing).collect();
        serde_json::to_string_pretty(&lines).expect("figures have a JSON form") + "\n"
    }
}

pub fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}
