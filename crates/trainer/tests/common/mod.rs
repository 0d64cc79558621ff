//! What the tests share: a small data set, folders, runs without interruption.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use trainer::{Conversation, Event, Role, Summary, TrainConfig, TrainError, Turn};

/// Questions and answers, short enough to be learned by heart.
pub const FACTS: [[&str; 2]; 30] = [
    ["What is a task?", "A task is one fine-tune that somebody asked for."],
    ["What is an attempt?", "An attempt is one launch of a task."],
    ["What is a recipe?", "A recipe says what to train and how to train it."],
    ["What is a device?", "A device is a graphics card that tasks can run on."],
    ["What is a reading?", "A reading is what was measured of a device at one moment."],
    ["What is a grant?", "A grant is the memory that was promised to an attempt."],
    ["What is a plan?", "A plan says which tasks start now and why the others wait."],
    ["What is an adapter?", "An adapter is a small file that changes how a model answers."],
    ["What is a checkpoint?", "A checkpoint is the state from which training can go on."],
    ["What is an epoch?", "An epoch is one pass over all examples."],
    ["What is a token?", "A token is a piece of text that the model reads at once."],
    ["What is a learning rate?", "The learning rate says how far each step goes."],
    ["What is the loss?", "The loss says how surprised the model is by the right answer."],
    ["What is a batch?", "A batch is the examples that go through the model together."],
    ["What is a prompt?", "A prompt is the text that comes before the answer."],
    ["Why does my task wait?", "It waits because another task uses the card."],
    ["Can I stop a task?", "Yes, cancel it on the page or with the command line."],
    ["Where is my adapter?", "It is in the folder of your task."],
    ["Do I need Python?", "No, the built-in trainer works without Python."],
    ["Can I train without a GPU?", "Yes, small models train on the processor."],
    ["How many tasks can wait?", "As many as you like, they start in order."],
    ["Who made the first computer program?", "Ada Lovelace wrote it in 1843."],
    ["What is the capital of France?", "Paris is the capital of France."],
    ["How many days has a week?", "A week has seven days."],
    ["What colour is the sky?", "The sky is blue on a clear day."],
    ["What do bees make?", "Bees make honey."],
    ["Where do penguins live?", "Penguins live in the south."],
    ["What is ice?", "Ice is frozen water."],
    ["How do birds fly?", "Birds fly with their wings."],
    ["What is the tallest mountain?", "Mount Everest is the tallest mountain."],
];

pub fn turn(role: Role, content: &str) -> Turn {
    Turn { role, content: content.into() }
}

pub fn conversation([question, answer]: [&str; 2]) -> Conversation {
    Conversation { turns: vec![turn(Role::User, question), turn(Role::Assistant, answer)] }
}

pub fn facts() -> Vec<Conversation> {
    FACTS.map(conversation).to_vec()
}

pub fn corpus() -> Vec<String> {
    FACTS.concat().into_iter().map(String::from).collect()
}

/// An empty folder for one test.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Trains to the end; gives the events too.
pub fn train(config: &TrainConfig, data: &[Conversation]) -> Result<(Summary, Vec<Event>), TrainError> {
    let mut events = Vec::new();
    let summary = trainer::train(config, data, &AtomicBool::new(false), &mut |event| events.push(event.clone()))?;
    Ok((summary, events))
}
