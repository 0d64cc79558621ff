//! Every text for people exists in Chinese and English.

use std::{env, ffi::OsString, sync::OnceLock};

use domain::Language;

static LANGUAGE: OnceLock<Language> = OnceLock::new();

/// The text in the language of this run.
pub fn text<T>(zh: T, en: T) -> T {
    match language() {
        Language::Zh => zh,
        Language::En => en,
    }
}

/// English until [`choose`] has said otherwise.
pub fn language() -> Language {
    *LANGUAGE.get().unwrap_or(&Language::En)
}

/// Decides before the arguments are parsed, because help and parse errors are texts too.
pub fn choose(arguments: &[OsString]) {
    let _ = LANGUAGE.set(chosen(arguments, |name| env::var(name).ok()));
}

fn chosen(arguments: &[OsString], variable: impl Fn(&str) -> Option<String>) -> Language {
    let arguments: Vec<&str> = arguments
        .iter()
        .map(|argument| argument.to_str().unwrap_or_default())
        // What follows belongs to somebody else's command.
        .take_while(|argument| *argument != "--")
        .collect();
    let given = arguments.iter().enumerate().find_map(|(index, argument)| match argument.strip_prefix("--lang") {
        Some("") => arguments.get(index + 1).copied(),
        Some(rest) => rest.strip_prefix('='),
        None => None,
    });
    let words = given.map(str::to_owned).into_iter();
    let words = words.chain(["SAGE_LANG", "LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(variable));
    match words.into_iter().find(|word| !word.is_empty()) {
        Some(word) if word.to_ascii_lowercase().starts_with("zh") => Language::Zh,
        _ => Language::En,
    }
}

/// The language's word for [`std::process::Command`]s of ours.
pub fn word() -> &'static str {
    text("zh", "en")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_beats_our_variable_which_beats_the_systems() {
        let language = |arguments: &[&str], variables: &[(&str, &str)]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            chosen(&arguments, find)
        };
        assert_eq!(language(&["gpu"], &[]), Language::En);
        assert_eq!(language(&["gpu"], &[("LANG", "zh_CN.UTF-8")]), Language::Zh);
        assert_eq!(language(&["gpu"], &[("LANG", "zh_CN.UTF-8"), ("SAGE_LANG", "en")]), Language::En);
        assert_eq!(language(&["gpu", "--lang", "zh"], &[("SAGE_LANG", "en")]), Language::Zh);
        assert_eq!(language(&["--lang=en", "gpu"], &[("SAGE_LANG", "zh")]), Language::En);
        assert_eq!(language(&["task", "submit", "--", "x", "--lang", "zh"], &[]), Language::En);
    }
}
