//! Chat templates: Jinja as Hugging Face models carry it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde_json::Value as Json;

use crate::{TrainError, Turn, files};

/// For models that have no template of their own.
pub const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] \
     + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A model's chat template with the special tokens that it refers to.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: Vec<(String, String)>,
}

impl ChatTemplate {
    /// From chat_template.jinja, or else tokenizer_config.json, or else ChatML.
    pub fn of_model(dir: &Path) -> Result<Self, TrainError> {
        let path = dir.join("tokenizer_config.json");
        let config: Json = files::read_json_if_present(&path)?.unwrap_or_default();
        let own = dir.join("chat_template.jinja");
        let source = match files::read_if_present(&own)? {
            Some(bytes) => String::from_utf8(bytes).map_err(|e| TrainError::bad_file(&own, e))?,
            None => in_config(&config["chat_template"]).unwrap_or(CHATML).to_string(),
        };
        let keys = ["bos_token", "eos_token", "pad_token", "unk_token"];
        let special = keys.into_iter().filter_map(|key| Some((key.to_string(), token(&config[key])?.to_string())));
        Self::new(source, special.collect()).map_err(|e| TrainError::bad_file(dir, describe(&e)))
    }

    fn new(source: String, special: Vec<(String, String)>) -> Result<Self, Error> {
        // Marks that tell transformers where answers are; the text is the same without.
        let source = ["{%- generation", "{% generation", "{%- endgeneration", "{% endgeneration"]
            .into_iter()
            .zip(["{%- if true", "{% if true", "{%- endif", "{% endif"])
            .fold(source, |source, (mark, plain)| source.replace(mark, plain));
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| strftime(&format, SystemTime::now()));
        environment.add_template_owned("chat", source)?;
        Ok(Self { environment, special })
    }

    /// The text of the turns; with `prompt`, followed by what opens an answer. The error is a sentence.
    pub fn render(&self, turns: &[Turn], prompt: bool) -> Result<String, String> {
        let special = Value::from_pairs(&self.special);
        let context = context! { messages => turns, add_generation_prompt => prompt, tools => (), ..special };
        self.environment.get_template("chat").and_then(|t| t.render(context)).map_err(|e| describe(&e))
    }
}

trait FromPairs {
    fn from_pairs(pairs: &[(String, String)]) -> Value;
}

impl FromPairs for Value {
    fn from_pairs(pairs: &[(String, String)]) -> Value {
        pairs.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect()
    }
}

/// A template is a text, or a list of named ones.
fn in_config(template: &Json) -> Option<&str> {
    let named = || template.as_array()?.iter().find(|t| t["name"] == "default")?["template"].as_str();
    template.as_str().or_else(named)
}

/// A token is a text, or an object with its content.
fn token(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

fn describe(error: &Error) -> String {
    match (error.detail(), error.line()) {
        (Some(detail), Some(line)) => format!("{detail} (template line {line})"),
        _ => error.to_string(),
    }
}

/// The date formats that templates ask for, in UTC.
fn strftime(format: &str, now: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let days = seconds / 86_400;
    // Days to civil date (Howard Hinnant).
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (name, weekday) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);

    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text += &match characters.next() {
            Some('Y') => year.to_string(),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('B') => name.into(),
            Some('b') => name[..3].into(),
            Some('A') => weekday.into(),
            Some('a') => weekday[..3].into(),
            Some('H') => format!("{:02}", seconds / 3600 % 24),
            Some('M') => format!("{:02}", seconds / 60 % 60),
            Some('S') => format!("{:02}", seconds % 60),
            Some(other) => other.to_string(),
            None => "%".into(),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Role;

    fn turn(role: Role, content: &str) -> Turn {
        Turn { role, content: content.into() }
    }

    #[test]
    fn templates_use_python_methods_special_tokens_and_refuse() {
        let source = "{{ bos_token }}{% for m in messages %}\n    {% if m.role == 'system' %}\n        \
                      {{ raise_exception('no system turns') }}\n    {% endif %}\n    \
                      {{- m['content'].strip().upper() + eos_token }}{% endfor %}";
        let special = vec![("bos_token".into(), "<s>".into()), ("eos_token".into(), "</s>".into())];
        let template = ChatTemplate::new(source.into(), special).unwrap();
        assert_eq!(template.render(&[turn(Role::User, " hi ")], false).unwrap(), "<s>HI</s>");
        let refusal = template.render(&[turn(Role::System, "x")], false).unwrap_err();
        assert!(refusal.contains("no system turns"), "{refusal}");
    }

    #[test]
    fn dates() {
        let now = UNIX_EPOCH + Duration::from_secs(1_709_208_000);
        assert_eq!(strftime("%A %d %b %Y, %B-%m %H:%M", now), "Thursday 29 Feb 2024, February-02 12:00");
    }
}
