//! Which tokens count as answers, under the chat templates of the usual model families.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::{TinyConfig, make_tiny};

const LLAMA3: &str = "{{- bos_token }}{% for message in messages %}\
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}\
    {% endfor %}{% if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

/// Shows reasoning for the last answer only, an empty one if there is none, as Qwen3 does.
const QWEN3: &str = "{% set ns = namespace(last=0) %}{% for message in messages %}\
    {% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}\
    {% for message in messages %}\
    {{- '<|im_start|>' + message.role + '\n' }}\
    {% set parts = message.content.split('</think>') %}\
    {% if message.role == 'assistant' and loop.index0 > ns.last %}\
    {% set thought = parts[0].split('<think>')[-1].strip('\n') if parts | length > 1 else '' %}\
    {{- '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}\
    {{- parts[-1].lstrip('\n') + '<|im_end|>\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}";

const MISTRAL: &str = "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}\
    {{ '[INST] ' + message.content + ' [/INST]' }}{% else %}{{ ' ' + message.content + eos_token }}{% endif %}\
    {% endfor %}";

fn folder(name: &str, template: Option<&str>) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("trainer-{}-{name}", std::process::id()));
    let corpus = ["What is a plan? A plan says which tasks start now.".repeat(3)];
    make_tiny(&dir, &corpus, &TinyConfig { hidden: 8, intermediate: 8, layers: 1, ..Default::default() }).unwrap();
    if let Some(template) = template {
        fs::write(dir.join("chat_template.jinja"), template).unwrap();
        // The end-of-turn tokens of the families, in place of ChatML's.
        let path = dir.join("tokenizer.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("<|im_start|>", "<|eot_id|>").replace("<|endoftext|>", "</s>")).unwrap();
        let tokens = r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}"#;
        fs::write(dir.join("tokenizer_config.json"), tokens).unwrap();
    }
    dir
}

/// The learned stretches of a conversation of user and assistant turns, as text with special tokens.
fn learned(name: &str, template: Option<&str>, turns: &[&str]) -> Vec<String> {
    let dir = folder(name, template);
    let encoder = Encoder::of_model(&dir, 2000).unwrap();
    fs::remove_dir_all(dir).unwrap();
    let role = |i| if i % 2 == 0 { Role::User } else { Role::Assistant };
    let turns = turns.iter().enumerate().map(|(i, text)| Turn { role: role(i), content: text.to_string() }).collect();
    let example = encoder.encode(&Conversation { turns }, 0).unwrap();
    let tokens: Vec<(u32, bool)> = example.ids.iter().copied().zip(example.answer.iter().copied()).collect();
    let stretches = tokens.chunk_by(|a, b| a.1 == b.1).filter(|stretch| stretch[0].1);
    stretches
        .map(|stretch| {
            let ids: Vec<u32> = stretch.iter().map(|(id, _)| *id).collect();
            encoder.tokenizer.decode(&ids, false).unwrap()
        })
        .collect()
}

#[test]
fn chatml_learns_answers_with_their_end_token() {
    let turns = ["What is a plan?", "A plan says: 你好 👋 now.", "And now?", "What is a plan?"];
    let expected = ["A plan says: 你好 👋 now.<|im_end|>", "What is a plan?<|im_end|>"];
    assert_eq!(learned("chatml", None, &turns), expected);
}

#[test]
fn trimmed_answers_and_other_end_tokens() {
    let turns = ["Hi", "  A plan. \n", "Bye", "\n\nNow."];
    assert_eq!(learned("llama3", Some(LLAMA3), &turns), ["A plan.<|eot_id|>", "Now.<|eot_id|>"]);
    // No prompt opens the answer here, so the space before it is learned too.
    assert_eq!(learned("mistral", Some(MISTRAL), &["Hi", "A plan.", "Bye", "Now."]), [" A plan.</s>", " Now.</s>"]);
}

#[test]
fn reasoning_is_learned_where_the_template_shows_it() {
    let turns = ["Hi", "<think>\nold\n</think>\n\nA plan.", "Bye", "<think>\nnew\n</think>\n\nNow."];
    let expected = ["A plan.<|im_end|>", "<think>\nnew\n</think>\n\nNow.<|im_end|>"];
    assert_eq!(learned("qwen3", Some(QWEN3), &turns), expected);
    let expected = ["A plan.<|im_end|>", "<think>\n\n</think>\n\nNow.<|im_end|>"];
    assert_eq!(learned("qwen3-plain", Some(QWEN3), &["Hi", "A plan.", "Bye", "Now."]), expected);
}

#[test]
fn a_cut_example_counts_only_what_is_left() {
    let mut example = Example { ids: vec![1, 2, 3, 4], answer: vec![false, false, true, true] };
    assert_eq!((example.needed_length(), example.targets()), (Some(3), 2));
    assert!(example.truncate(3));
    assert_eq!(example.targets(), 1);
    assert!(!example.truncate(2));
    // The very first token is never predicted.
    let first = Example { ids: vec![1, 2], answer: vec![true, false] };
    assert_eq!((first.needed_length(), first.targets()), (None, 0));
}

#[test]
fn a_batch_predicts_each_answer_token_from_the_row_before() {
    let a = Example { ids: vec![1, 2, 3], answer: vec![false, true, true] };
    let b = Example { ids: vec![4, 5], answer: vec![true, true] };
    let batch = Batch::new([&a, &b]);
    assert_eq!((batch.ids, batch.rows, batch.targets), (vec![1, 2, 3, 4, 5], vec![0, 1, 3], vec![2, 3, 5]));
    assert_eq!(batch.spans[1].queries, 3..5);
}
