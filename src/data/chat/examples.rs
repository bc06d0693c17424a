//! Files of instruction data: JSON lines with the messages of a chat, or with a prompt and its completion.

use std::path::Path;

use serde_json::{Map, Value};

use super::message::short;
use super::{ChatError, ChatTemplate, Message, Role};
use crate::data::examples::Example;
use crate::data::input::{Lines, MAX_DOCUMENT_BYTES};
use crate::data::tokenizer::{TokenRoles, Tokenizer};

/// The examples of a file, an object a line:
///
/// - `messages`: a list of objects with `role` (`system`, `user` or `assistant`) and `content`. The model's chat
///   template makes text of them. An answer is what each message of the assistant adds to that behind the prompt for
///   it, the token that ends its turn included. Where a template shows an earlier answer in
///   another way once it is answered to, as without its thoughts, the later ones alone count.
/// - `prompt` and `completion`: two texts, without a template. The answer is the completion, and behind it the token
///   that ends a text, where the model has one.
///
/// Prompt and answer are encoded apart, as they are when an answer is generated.
///
/// # Errors
/// When the file cannot be read or holds nothing, or a line is no such object; the error names the line.
pub fn read_examples(
    path: &Path,
    tokenizer: &Tokenizer,
    roles: &TokenRoles,
) -> Result<Vec<Example>, ChatError> {
    let mut reader = Reader {
        tokenizer,
        roles,
        template: None,
    };
    let mut lines = Lines::open(path, MAX_DOCUMENT_BYTES)?;
    let mut examples = Vec::new();
    while lines.advance()? {
        let example = reader.example(lines.line());
        examples.push(example.map_err(|problem| ChatError::Line {
            path: path.to_owned(),
            number: lines.number(),
            problem,
        })?);
    }
    match examples.is_empty() {
        false => Ok(examples),
        true => Err(ChatError::Empty {
            path: path.to_owned(),
        }),
    }
}

struct Reader<'a> {
    tokenizer: &'a Tokenizer,
    roles: &'a TokenRoles,
    /// Taken when the first messages come.
    template: Option<ChatTemplate>,
}

/// What is wrong with a line, and the remedy.
type Problem = String;

impl Reader<'_> {
    fn example(&mut self, line: &[u8]) -> Result<Example, Problem> {
        let text = std::str::from_utf8(line);
        let text = text.map_err(|e| format!("is no UTF-8 at its byte {}", e.valid_up_to()))?;
        let value: Value = serde_json::from_str(text).map_err(|e| format!("is no JSON: {e}"))?;
        let wanted = "with messages, or prompt and completion";
        let Value::Object(object) = value else {
            return Err(format!("is {}, and no object {wanted}", short(&value)));
        };
        let keys = ["messages", "prompt", "completion"];
        match keys.map(|key| object.get(key)) {
            [Some(Value::Array(messages)), None, None] => self.of_messages(messages),
            [Some(other), None, None] => Err(format!(
                "has messages that are {}, and no list",
                short(other)
            )),
            [None, Some(_), Some(_)] => self.of_pair(&object),
            [Some(_), ..] => {
                Err("has messages and prompt or completion; leave out one of the two".to_owned())
            }
            _ => {
                let found: Vec<&str> = object.keys().take(8).map(String::as_str).collect();
                Err(format!(
                    "has the keys {}; write an object {wanted}",
                    found.join(", ")
                ))
            }
        }
    }

    fn of_pair(&self, object: &Map<String, Value>) -> Result<Example, Problem> {
        let text = |key: &str| match &object[key] {
            Value::String(text) => Ok(text.as_str()),
            other => Err(format!("has a {key} that is {}, and no text", short(other))),
        };
        let (prompt, completion) = (text("prompt")?, text("completion")?);
        if completion.is_empty() {
            return Err("has an empty completion; there is nothing to learn".to_owned());
        }
        let mut example = Example::default();
        example.push(self.tokenizer.encode_prompt(prompt), false);
        if example.tokens.is_empty() {
            return Err("has an empty prompt, behind which nothing follows; the model's texts have no first token".to_owned());
        }
        example.push(self.tokenizer.encode(completion), true);
        example.push(self.roles.eos.first().copied().into_iter().collect(), true);
        Ok(example)
    }

    fn of_messages(&mut self, values: &[Value]) -> Result<Example, Problem> {
        let mut messages = Vec::with_capacity(values.len());
        for (number, value) in (1..).zip(values) {
            let message = Message::read(value);
            messages
                .push(message.map_err(|problem| format!("has a message {number} that {problem}"))?);
        }
        let is_answer = |message: &Message| message.role() == Role::Assistant;
        if messages.is_empty() {
            return Err("has no messages".to_owned());
        }
        if !messages.iter().any(is_answer) {
            return Err(
                "has no message of the assistant, so there is no answer to learn".to_owned(),
            );
        }
        if self.template.is_none() {
            let template = ChatTemplate::new(self.tokenizer, self.roles);
            self.template = Some(template.map_err(|e| format!("has messages, but {e}"))?);
        }
        let Some(template) = &self.template else {
            return Err(ChatError::NoTemplate.to_string());
        };
        let render = |messages: &[Message], prompts| {
            let text = template.render(messages, prompts);
            text.map_err(|error| format!("cannot be made to text: {error}"))
        };
        let mut example = Example::default();
        let mut done = String::new();
        for (place, message) in messages.iter().enumerate().filter(|(_, m)| is_answer(m)) {
            let prompt = render(&messages[..place], true)?;
            let whole = render(&messages[..=place], false)?;
            let rewritten = || {
                format!(
                    "has a message {} of the assistant whose text the chat template puts behind another beginning \
                     than its prompt's; end the messages with it",
                    place + 1
                )
            };
            let own_prompt = prompt.strip_prefix(&*done);
            let answer = whole.strip_prefix(&*prompt).ok_or_else(rewritten)?;
            if message.content().is_empty() || answer.is_empty() {
                return Err(format!(
                    "has an empty message {} of the assistant; there is nothing to learn",
                    place + 1
                ));
            }
            if own_prompt.is_none() {
                // The template shows earlier answers otherwise by now, as without their thoughts: they are no more
                // than what this one answers to.
                example = Example::default();
            }
            let own_prompt = own_prompt.unwrap_or(&prompt);
            example.push(self.tokenizer.encode(own_prompt), false);
            example.push(self.tokenizer.encode(answer), true);
            done = whole;
        }
        Ok(example)
    }
}

impl Example {
    fn push(&mut self, tokens: Vec<u32>, is_answer: bool) {
        self.tokens.extend(tokens);
        self.is_answer.resize(self.tokens.len(), is_answer);
    }
}
