//! A small data set about SAGE Studio, to practise on.

use crate::dataset::{Conversation, Turn};

/// Alpaca rows, one JSON object per line, in Chinese and English.
pub const JSONL: &str = include_str!("../data/samples.jsonl");

/// The rows as conversations.
pub fn conversations() -> Vec<Conversation> {
    crate::dataset::parse(JSONL.as_bytes()).expect("the shipped data set is valid")
}

/// Every question and answer as plain text, for training a tokenizer.
pub fn texts() -> Vec<String> {
    let turns = conversations().into_iter().flat_map(|conversation| conversation.turns);
    turns.map(|Turn { content, .. }| content).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Role;

    #[test]
    fn the_rows_are_questions_with_answers_in_both_languages() {
        let conversations = conversations();
        assert!((28..=40).contains(&conversations.len()), "{}", conversations.len());
        let chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        let mut questions = Vec::new();
        for conversation in &conversations {
            let [Turn { role: Role::User, content: question }, Turn { role: Role::Assistant, content: answer }] =
                &conversation.turns[..]
            else {
                panic!("a question and an answer: {conversation:?}");
            };
            assert_eq!(chinese(question), chinese(answer), "{question}");
            questions.push(question);
        }
        let zh = questions.iter().filter(|question| chinese(question)).count();
        assert!(zh >= 10 && questions.len() - zh >= 10, "{zh} of {}", questions.len());
        questions.sort();
        questions.dedup();
        assert_eq!(questions.len(), conversations.len(), "no question twice");
        assert_eq!(texts().len(), 2 * conversations.len());
    }
}
