//! The chat template of a model: Jinja, as `transformers` renders it.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat;
use serde::Serialize;
use serde_json::ser::Formatter;

use super::{ChatError, Message, Role};
use crate::data::tokenizer::{TokenRoles, Tokenizer};

/// A template, and the texts of the tokens that it may name.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

/// Instructions of a template at most; those of models take some thousand for a chat of a hundred messages.
/// One is also taken by 64 bytes of text, so that this bounds memory, too.
const FUEL: u64 = 2_000_000;
/// Name of the template in messages.
const NAME: &str = "chat_template";

impl ChatTemplate {
    /// The template that lies beside a model's tokenizer.
    ///
    /// # Errors
    /// When there is none, or it does not parse.
    pub fn new(tokenizer: &Tokenizer, roles: &TokenRoles) -> Result<Self, ChatError> {
        let source = roles
            .chat_template
            .as_deref()
            .ok_or(ChatError::NoTemplate)?;
        let text = |id: Option<u32>| {
            let bytes = tokenizer.token_bytes(id?)?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        Self::of(source, text(roles.bos), text(roles.eos.first().copied()))
    }

    /// A template for a model whose texts begin and end with these tokens.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn of(
        source: &str,
        bos_token: Option<String>,
        eos_token: Option<String>,
    ) -> Result<Self, ChatError> {
        let template = Self {
            source: without_generation_tags(source),
            bos_token,
            eos_token,
        };
        let environment = environment();
        let parsed = environment.template_from_named_str(NAME, &template.source);
        parsed.map_err(|error| problem("does not parse", &error))?;
        Ok(template)
    }

    /// Messages as text; with `prompts` up to where the assistant's next message begins.
    ///
    /// There is no `strftime_now`: what a model is trained with must not depend on the day. Templates that ask
    /// whether there is one have a date of their own.
    ///
    /// # Errors
    /// When the template fails, for instance since it does not take a chat of such messages.
    pub fn render(&self, messages: &[Message], prompts: bool) -> Result<String, ChatError> {
        let environment = environment();
        let failed = |error| problem("fails", &error);
        let template = environment.template_from_named_str(NAME, &self.source);
        let template = template.map_err(failed)?;
        let objects: Vec<_> = messages.iter().map(Message::object).collect();
        let token = |text: &Option<String>| text.as_deref().map_or(Value::UNDEFINED, Value::from);
        let context = minijinja::context! {
            messages => Value::from(Serde(&objects)),
            add_generation_prompt => prompts,
            bos_token => token(&self.bos_token),
            eos_token => token(&self.eos_token),
            tools => (),
            documents => (),
        };
        template.render(context).map_err(failed)
    }

    /// The special token that ends the assistant's messages, if one does.
    pub fn end_of_turn(&self, tokenizer: &Tokenizer) -> Option<u32> {
        const ANSWER: &str = "Yes, it is.";
        let question = Message::new(Role::User, "Is it?");
        let chat = [question, Message::new(Role::Assistant, ANSWER)];
        let text = self.render(&chat, false).ok()?;
        let behind = &text[text.rfind(ANSWER)? + ANSWER.len()..];
        let first = tokenizer.encode(behind).into_iter().next()?;
        tokenizer.special_ids().contains(&first).then_some(first)
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
    {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", to_json);
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment
}

/// Of what is wrong no more than the template's own words and the line.
fn problem(what: &str, error: &Error) -> ChatError {
    let said = match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (ErrorKind::OutOfFuel, _) => format!("it takes more than {FUEL} steps"),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let place = error
        .line()
        .map_or(String::new(), |line| format!(" in line {line}"));
    ChatError::Template {
        problem: format!("{what}{place}: {said}"),
    }
}

/// Takes out `{% generation %}` and `{% endgeneration %}`, which `transformers` adds to Jinja to mark answers and
/// which show nothing.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start + 2..].find("%}") else {
            break;
        };
        let (before, tag, after) = (
            &rest[..start],
            &rest[start..][..len + 4],
            &rest[start + len + 4..],
        );
        let inner = &tag[2..len + 2];
        let name = inner.trim_matches(['-', '+']).trim();
        let stands_for = match name {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => name,
        };
        text.push_str(before);
        match stands_for == name {
            true => text.push_str(tag),
            false => text.push_str(&tag.replacen(name, stands_for, 1)),
        }
        rest = after;
    }
    text + rest
}

/// JSON as Python's `json.dumps(value, ensure_ascii=False)` has it, which `transformers` puts in the place of
/// Jinja's own filter.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Python's others are of no use to a template.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        None => {
            let mut out = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
            value.serialize(&mut out)
        }
        Some(indent) => {
            let spaces = " ".repeat(indent.min(64));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            let mut out = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            value.serialize(&mut out)
        }
    };
    let failed = |e: &dyn std::fmt::Display| Error::new(ErrorKind::BadSerialization, e.to_string());
    written.map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}

/// A space behind commas and colons.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_answers_show_nothing() {
        let source = "a{%- generation -%} b {% endgeneration %}c{% if x %}{% generation2 %}";
        let wanted = "a{%- if true -%} b {% endif %}c{% if x %}{% generation2 %}";
        assert_eq!(without_generation_tags(source), wanted);
        assert_eq!(without_generation_tags("{% open"), "{% open");
    }

    #[test]
    fn json_is_pythons() {
        let value = serde_json::json!({"a": [1, "<é>\"", null], "b": {}, "c": true});
        let value = Value::from(Serde(&value));
        let one_line = to_json(&value, Kwargs::from_iter(Vec::<(String, Value)>::new())).unwrap();
        assert_eq!(one_line, r#"{"a": [1, "<é>\"", null], "b": {}, "c": true}"#);
    }
}
