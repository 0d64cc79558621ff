//! What the log lines of common trainers say.

use serde_json::{Map, Value};

#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    /// `{'loss': 1.2, 'learning_rate': 5e-05, 'epoch': 0.5}`, as a Python dictionary or as JSON.
    Figures(Map<String, Value>),
    /// `Epoch 2/3`
    Epoch { epoch: u32, total: u32 },
    /// `45/100` of a progress bar
    Steps { step: u64, total: u64 },
}

pub(super) fn read(line: &str) -> Option<Seen> {
    figures(line).or_else(|| epoch(line)).or_else(|| steps(line))
}

/// The figures of a line that contains a dictionary with a loss or an epoch. Those of the evaluation and the closing
/// summary have neither a `loss` nor anything else that would be progress.
fn figures(line: &str) -> Option<Seen> {
    let text = &line[line.find('{')?..=line.rfind('}')?.max(line.find('{')?)];
    let figures = serde_json::from_str(text).ok().or_else(|| python_dictionary(text))?;
    figures.contains_key("loss").then(|| Seen::Figures(flatten_numbers(figures)))
}

/// Newer versions of Hugging Face's trainer print figures as text: `{'loss': '1.2'}`.
fn flatten_numbers(mut figures: Map<String, Value>) -> Map<String, Value> {
    for value in figures.values_mut() {
        if let Value::String(text) = value {
            let text = text.trim();
            let number = text.parse::<u64>().map(Value::from).or_else(|_| text.parse::<f64>().map(Value::from));
            *value = number.unwrap_or(Value::Null);
        }
    }
    figures
}

/// A flat dictionary of plain values as Python prints it.
fn python_dictionary(text: &str) -> Option<Map<String, Value>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let entry = |entry: &str| {
        let (key, value) = entry.split_once(':')?;
        let key = key.trim().trim_matches(['\'', '"']);
        let value = value.trim().trim_matches(['\'', '"']);
        Some((key.to_owned(), Value::String(value.to_owned())))
    };
    inner.split(',').map(entry).collect()
}

/// `Epoch 2/3`, `epoch: [2/3]`, `Epoch 2 of 3`, in any case.
fn epoch(line: &str) -> Option<Seen> {
    let lower = line.to_ascii_lowercase();
    lower.match_indices("epoch").find_map(|(at, word)| {
        let rest = lower[at + word.len()..].trim_start_matches([' ', ':', '[', '(', '=', '#']);
        let (epoch, rest) = number(rest)?;
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('/').or_else(|| rest.strip_prefix("of "))?;
        let (total, _) = number(rest.trim_start())?;
        let (epoch, total) = (u32::try_from(epoch).ok()?, u32::try_from(total).ok()?);
        (total > 0 && epoch <= total).then_some(Seen::Epoch { epoch, total })
    })
}

/// ` 45%|████▌     | 45/100 [00:12<00:15,  3.6it/s]`. Only with the bar around it: `3/4` alone can be anything.
fn steps(line: &str) -> Option<Seen> {
    let (before, rest) = line.rsplit_once('|')?;
    let (title, _) = before.split_once("%|")?;
    let (step, rest) = number(rest.trim_start())?;
    let (total, rest) = number(rest.strip_prefix('/')?)?;
    let is_bar = rest.trim_start().starts_with('[');
    (is_bar && is_of_training(title) && total > 0 && step <= total).then_some(Seen::Steps { step, total })
}

/// Bars over shards, files and tokens say so; the training's own has often no title at all.
fn is_of_training(title: &str) -> bool {
    let title = title.trim_end_matches(|c: char| c.is_ascii_digit()).trim().to_lowercase();
    title.is_empty() || ["train", "epoch", "step", "训练"].iter().any(|word| title.contains(word))
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(line: &str) -> Option<f64> {
        match read(line)? {
            Seen::Figures(figures) => figures["loss"].as_f64(),
            _ => None,
        }
    }

    #[test]
    fn figures_come_as_python_or_json() {
        let line = "{'loss': 1.2345, 'grad_norm': 0.5, 'learning_rate': 5e-05, 'epoch': 0.53}";
        let Some(Seen::Figures(figures)) = read(line) else { panic!() };
        assert_eq!(figures["loss"], 1.2345);
        assert_eq!(figures["learning_rate"], 5e-5);
        assert_eq!(figures["epoch"], 0.53);

        assert_eq!(loss(r#"{"loss": 2.5, "step": 3}"#), Some(2.5));
        assert_eq!(loss("{'loss': '0.75', 'epoch': '1.0'}"), Some(0.75), "newer trainers print text");
        assert_eq!(loss("INFO 12:00 {'loss': 3, 'x': True} done"), Some(3.0));
        assert_eq!(read("{'eval_loss': 1.0, 'epoch': 1.0}"), None);
        assert_eq!(read("{'train_runtime': 12.3, 'train_loss': 0.9}"), None);
    }

    #[test]
    fn epochs_and_bars() {
        for line in ["Epoch 2/3", "epoch: [2/3] loss", "=== EPOCH 2 of 3 ===", "Epoch [2/3], Step 5"] {
            assert_eq!(read(line), Some(Seen::Epoch { epoch: 2, total: 3 }), "{line}");
        }
        let bar = " 45%|████▌     | 45/100 [00:12<00:15,  3.6it/s]";
        assert_eq!(read(bar), Some(Seen::Steps { step: 45, total: 100 }));
        let described = "Training:  10%|#         | 1/10 [00:01<00:09,  1.0it/s, loss=0.3]";
        assert_eq!(read(described), Some(Seen::Steps { step: 1, total: 10 }));
    }

    #[test]
    fn what_only_looks_like_progress_is_left_alone() {
        for line in [
            "",
            "{",
            "}",
            "}{",
            "{}",
            "{'loss'}",
            "45/100",
            "epoch",
            "Epoch 4/3",
            "Epoch 1/0",
            "epoch 2",
            "on 3/4/2026",
            "100%|x| 5/4 [",
            "Loading checkpoint shards: 100%|███| 4/4 [00:01<00:00,  2.1it/s]",
            "Map:  5%|x| 50/1000 [00:01<1:00]",
            "a | 3/4 | b",
            "{'loss': 1.0",
            "模型 {损失}",
            "epoch 99999999999999999999/3",
            "é{loss}é",
        ] {
            assert_eq!(read(line), None, "{line:?}");
        }
    }
}
