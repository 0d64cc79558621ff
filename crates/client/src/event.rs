use std::io::{BufRead, BufReader};

use api_types::{Devices, LogChunk, ProgressEvent, QueueEvent, RemovedEvent, TaskView};
use serde::de::DeserializeOwned;

/// What `/api/v1/events` tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Task(Box<TaskView>),
    Removed(RemovedEvent),
    Progress(ProgressEvent),
    Queue(QueueEvent),
    Devices(Devices),
    /// Too much was missed: fetch the lists again.
    Resync,
}

/// What a task's log stream tells.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEvent {
    Chunk(LogChunk),
    /// The task has ended and its log is complete.
    End,
}

/// Blocks in `next` until the studio says something; ends when the connection does.
pub struct EventStream {
    messages: Messages,
    last_id: Option<u64>,
}

impl EventStream {
    pub(crate) fn new(body: ureq::BodyReader<'static>, last_id: Option<u64>) -> EventStream {
        EventStream { messages: Messages::new(body), last_id }
    }

    /// Pass it to [`Client::events`](crate::Client::events) to go on after this stream has ended.
    pub fn last_id(&self) -> Option<u64> {
        self.last_id
    }
}

impl Iterator for EventStream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let message = self.messages.next()?;
            self.last_id = message.id.or(self.last_id);
            let event = match message.event.as_str() {
                "task" => message.data().map(|task| Event::Task(Box::new(task))),
                "removed" => message.data().map(Event::Removed),
                "progress" => message.data().map(Event::Progress),
                "queue" => message.data().map(Event::Queue),
                "devices" => message.data().map(Event::Devices),
                "resync" => Some(Event::Resync),
                // A newer studio may say more.
                _ => None,
            };
            if event.is_some() {
                return event;
            }
        }
    }
}

/// Blocks in `next` until the log grows; `None` without [`LogEvent::End`] before it means that the studio went away.
pub struct LogStream {
    messages: Messages,
    offset: u64,
}

impl LogStream {
    pub(crate) fn new(body: ureq::BodyReader<'static>, offset: u64) -> LogStream {
        LogStream { messages: Messages::new(body), offset }
    }

    /// Bytes of the log that have come so far: where to go on.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl Iterator for LogStream {
    type Item = LogEvent;

    fn next(&mut self) -> Option<LogEvent> {
        loop {
            let message = self.messages.next()?;
            self.offset = message.id.unwrap_or(self.offset);
            match message.event.as_str() {
                "log" => {
                    if let Some(chunk) = message.data() {
                        return Some(LogEvent::Chunk(chunk));
                    }
                }
                "end" => return Some(LogEvent::End),
                _ => {}
            }
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Message {
    event: String,
    data: String,
    id: Option<u64>,
}

impl Message {
    fn data<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.data).ok()
    }
}

/// Server-sent events as the HTML standard writes them down.
struct Messages<R = ureq::BodyReader<'static>> {
    lines: BufReader<R>,
}

impl<R: std::io::Read> Messages<R> {
    fn new(body: R) -> Messages<R> {
        Messages { lines: BufReader::new(body) }
    }

    /// The next complete message.
    fn next(&mut self) -> Option<Message> {
        let mut message = Message::default();
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let text = line.trim_end_matches(['\n', '\r']);
            if text.is_empty() {
                if !message.event.is_empty() || !message.data.is_empty() {
                    message.data.pop();
                    return Some(message);
                }
                message = Message::default();
                continue;
            }
            let (field, value) = text.split_once(':').unwrap_or((text, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut message.event),
                "data" => {
                    message.data.push_str(value);
                    message.data.push('\n');
                }
                "id" => message.id = value.parse().ok(),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_and_comments_ignored() {
        let text =
            ": hello\n\nid: 7\nevent: task\ndata: {\"a\":\ndata: 1}\n\n:\n\nevent:end\r\ndata: {}\r\n\r\nevent: cut";
        let mut messages = Messages::new(text.as_bytes());
        let task = messages.next().unwrap();
        assert_eq!((task.event.as_str(), task.data.as_str(), task.id), ("task", "{\"a\":\n1}", Some(7)));
        assert_eq!(task.data::<serde_json::Value>().unwrap(), serde_json::json!({ "a": 1 }));
        let end = messages.next().unwrap();
        assert_eq!((end.event.as_str(), end.data.as_str(), end.id), ("end", "{}", None));
        assert_eq!(messages.next(), None, "a message cut off is none");
    }
}
