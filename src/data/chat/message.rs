//! The messages of a chat.

use serde_json::{Map, Value};

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions for the whole chat.
    System,
    /// What is asked.
    User,
    /// What is answered.
    Assistant,
}

impl Role {
    const ALL: [Self; 3] = [Self::System, Self::User, Self::Assistant];

    /// The name in files and templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    role: Role,
    /// As templates see it, whatever else a file gave along.
    object: Map<String, Value>,
}

impl Message {
    /// A message of some text.
    pub fn new(role: Role, content: &str) -> Self {
        let object = [("role", role.name()), ("content", content)];
        Self {
            role,
            object: object
                .map(|(key, value)| (key.to_owned(), value.into()))
                .into_iter()
                .collect(),
        }
    }

    /// Reads the JSON of a message, whose content is a text or a list of parts of text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(value: &Value) -> Result<Self, String> {
        let Some(object) = value.as_object() else {
            return Err(format!(
                "is {}, and no object with role and content",
                short(value)
            ));
        };
        let name = object.get("role").and_then(Value::as_str);
        let role = Role::ALL.into_iter().find(|role| Some(role.name()) == name);
        let Some(role) = role else {
            let found = object.get("role").map_or("missing".to_owned(), short);
            return Err(format!(
                "has a role that is {found}; it is system, user or assistant"
            ));
        };
        let content = match object.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => joined(parts)?,
            Some(other) => {
                return Err(format!(
                    "has a content that is {}, and no text",
                    short(other)
                ));
            }
            None => return Err("has no content".to_owned()),
        };
        let mut object = object.clone();
        object.insert("content".to_owned(), content.into());
        Ok(Self { role, object })
    }

    /// Whose it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its text.
    pub fn content(&self) -> &str {
        self.object
            .get("content")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(super) fn object(&self) -> &Map<String, Value> {
        &self.object
    }
}

/// The texts of parts such as `{"type": "text", "text": "..."}`.
fn joined(parts: &[Value]) -> Result<String, String> {
    let text = |part: &Value| {
        let text = part["text"].as_str().filter(|_| part["type"] == "text");
        let found = || format!("has a part that is {}, and no text", short(part));
        text.map(str::to_owned).ok_or_else(found)
    };
    parts.iter().map(text).collect()
}

/// A value for a message, not more than a line of it.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
