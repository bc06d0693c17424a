//! Chats as text, against `transformers` (see `tests/chat/make_chat_fixtures.py`), and files of instruction data.

use std::path::Path;

use gpu_tlm::data::chat::{ChatTemplate, Message, Role, read_examples};
use gpu_tlm::data::tokenizer::{TokenRoles, Tokenizer};
use serde_json::{Value, json};

fn message(value: &Value) -> Message {
    let role = match value["role"].as_str().unwrap() {
        "system" => Role::System,
        "user" => Role::User,
        _ => Role::Assistant,
    };
    Message::new(role, value["content"].as_str().unwrap())
}

#[test]
fn chats_are_the_text_that_transformers_makes_of_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat/chats.json");
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 48);
    let token = |text: &str| Some(text.to_owned());
    let mut failures = Vec::new();
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let source = fixture["templates"][name].as_str().unwrap();
        let template = ChatTemplate::of(source, token("<s>"), token("</s>")).unwrap();
        let number = usize::try_from(case["chat"].as_u64().unwrap()).unwrap();
        let chat = fixture["chats"][number].as_array().unwrap();
        let messages: Vec<Message> = chat.iter().map(message).collect();
        let text = template.render(&messages, case["prompts"] == true);
        let wanted = case["text"].as_str().unwrap();
        match text {
            Ok(text) if text == wanted => {}
            other => failures.push(format!(
                "{name} of chat {number}: {other:?}\n  wanted {wanted:?}"
            )),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_template_that_fails_says_why() {
    let ask = [Message::new(Role::User, "?")];
    for (source, wanted) in [
        ("{% if %}", "the chat template does not parse in line 1"),
        ("a {%} b", "the chat template does not parse in line 1"),
        ("a\n{{ x | nope }}", "nope"),
        (
            "{{ raise_exception('No system message is taken.') }}",
            "fails in line 1: No system message is taken.",
        ),
        (
            "\n{{ strftime_now('%d') }}",
            "fails in line 2: unknown function: strftime_now",
        ),
        (
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "it takes more than",
        ),
        ("{{ messages[0].content.nope() }}", "nope"),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "recursion",
        ),
        ("{{ nothing.at.all }}", "undefined"),
    ] {
        let rendered = ChatTemplate::of(source, None, None).and_then(|t| t.render(&ask, true));
        let error = rendered.unwrap_err().to_string();
        assert!(
            error.contains(wanted) && !error.contains('\n'),
            "{source}: {error}"
        );
    }
}

/// Bytes, and the special tokens that the template of [`roles`] writes.
fn tokenizer(folder: &Path) -> Tokenizer {
    let text = folder.join("text.txt");
    std::fs::write(&text, "a small text").unwrap();
    let trained = std::process::Command::new(env!("CARGO_BIN_EXE_gpu-tlm"))
        .args(["tokenizer", "train", "--vocab-size", "259", "--input"])
        .arg(&text)
        .args([
            "--special-token",
            "<|endoftext|>",
            "--special-token",
            "<|ask|>",
            "--special-token",
            "<|end|>",
        ])
        .arg("--out")
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        trained.status.success(),
        "{}",
        String::from_utf8_lossy(&trained.stderr)
    );
    Tokenizer::load(folder).unwrap()
}

fn roles(tokenizer: &Tokenizer) -> TokenRoles {
    let template = "{% for m in messages %}{% if m.role == 'user' %}<|ask|>{{ m.content }}<|end|>{% elif m.role == \
                    'assistant' %}> {{ m.content }}<|end|>\n{% else %}{{ raise_exception('no ' + m.role) }}{% endif %}\
                    {% endfor %}{% if add_generation_prompt %}> {% endif %}";
    TokenRoles {
        chat_template: Some(template.to_owned()),
        ..TokenRoles::of(tokenizer)
    }
}

#[test]
fn answers_are_what_the_assistant_says_with_the_end_of_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(dir.path());
    let roles = roles(&tokenizer);
    let chat = json!({"messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "one", "name": "left as it is"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "two<|end|>"},
    ]});
    let pair = json!({"prompt": "2+2=", "completion": "4", "source": "left out"});
    let path = dir.path().join("data.jsonl");
    std::fs::write(&path, format!("{chat}\n\n{pair}\n")).unwrap();
    let examples = read_examples(&path, &tokenizer, &roles).unwrap();
    let parts = |example: usize| {
        let gpu_tlm::data::examples::Example { tokens, is_answer } = &examples[example];
        assert_eq!(tokens.len(), is_answer.len());
        let mut parts: Vec<(bool, Vec<u8>)> = Vec::new();
        for (&token, &is_answer) in tokens.iter().zip(is_answer) {
            let bytes = tokenizer.token_bytes(token).unwrap();
            match parts.last_mut() {
                Some((own, text)) if *own == is_answer => text.extend(bytes),
                _ => parts.push((is_answer, bytes.to_vec())),
            }
        }
        let text = |(is_answer, bytes)| (is_answer, String::from_utf8(bytes).unwrap());
        parts.into_iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(examples.len(), 2);
    let part = |is_answer, text: &str| (is_answer, text.to_owned());
    let wanted = [
        part(false, "<|ask|>ab<|end|>> "),
        part(true, "one<|end|>\n"),
        part(false, "<|ask|>c<|end|>> "),
        part(true, "two<|end|><|end|>\n"),
    ];
    assert_eq!(parts(0), wanted);
    assert_eq!(
        parts(1),
        [part(false, "2+2="), part(true, "4<|endoftext|>")]
    );
    let template = ChatTemplate::new(&tokenizer, &roles).unwrap();
    assert_eq!(
        template.end_of_turn(&tokenizer),
        tokenizer.token_id("<|end|>")
    );
}

#[test]
#[allow(clippy::too_many_lines, reason = "a list of cases")]
fn a_line_that_is_no_example_is_named_with_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(dir.path());
    let roles = roles(&tokenizer);
    let path = dir.path().join("data.jsonl");
    let error = |line: &[u8], roles: &TokenRoles| {
        let good = b"{\"prompt\": \"a\", \"completion\": \"b\"}\n";
        std::fs::write(&path, [good, line].concat()).unwrap();
        let error = read_examples(&path, &tokenizer, roles)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("line 2 of '") && !error.contains('\n'),
            "{error}"
        );
        error
    };
    let ask = r#"{"role": "user", "content": "?"}"#;
    for (line, wanted) in [
        (
            "[1]",
            "is [1], and no object with messages, or prompt and completion",
        ),
        ("{\"messages\": ", "is no JSON"),
        (
            r#"{"text": "a", "b": 1}"#,
            "has the keys text, b; write an object with messages",
        ),
        (r#"{"prompt": "a"}"#, "has the keys prompt"),
        (
            r#"{"prompt": "a", "completion": 3}"#,
            "has a completion that is 3, and no text",
        ),
        (
            r#"{"prompt": "a", "completion": ""}"#,
            "has an empty completion",
        ),
        (
            r#"{"prompt": "", "completion": "a"}"#,
            "has an empty prompt",
        ),
        (
            r#"{"messages": [], "prompt": "a", "completion": "b"}"#,
            "leave out one of the two",
        ),
        (r#"{"messages": {"role": "user"}}"#, "and no list"),
        (r#"{"messages": []}"#, "has no messages"),
        (
            &format!(r#"{{"messages": [{ask}]}}"#),
            "has no message of the assistant",
        ),
        (
            &format!(r#"{{"messages": [{ask}, "hi"]}}"#),
            r#"has a message 2 that is "hi", and no object"#,
        ),
        (
            r#"{"messages": [{"role": "robot", "content": "a"}]}"#,
            r#"has a role that is "robot"; it is system, user or assistant"#,
        ),
        (
            r#"{"messages": [{"content": "a"}]}"#,
            "has a role that is missing",
        ),
        (
            r#"{"messages": [{"role": "user"}]}"#,
            "has a message 1 that has no content",
        ),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "image"}]}]}"#,
            r#"has a part that is {"type":"image"}"#,
        ),
        (
            &format!(r#"{{"messages": [{ask}, {{"role": "assistant", "content": ""}}]}}"#),
            "has an empty message 2 of the assistant",
        ),
        (
            &format!(
                r#"{{"messages": [{{"role": "system", "content": "s"}}, {ask}, {{"role": "assistant", "content": "a"}}]}}"#
            ),
            "cannot be made to text: the chat template fails in line 2: no system",
        ),
    ] {
        let error = error(line.as_bytes(), &roles);
        assert!(error.contains(wanted), "{line}: {error}");
    }
    let chat = format!(r#"{{"messages": [{ask}, {{"role": "assistant", "content": "a"}}]}}"#);
    let none = error(chat.as_bytes(), &TokenRoles::of(&tokenizer));
    assert!(none.contains("have no chat template"), "{none}");
    // A template that shows of the past only the last message.
    let forgetful = TokenRoles {
        chat_template: Some("{{ messages | length }}{{ messages[-1].content }}".to_owned()),
        ..TokenRoles::of(&tokenizer)
    };
    let rewritten = error(chat.as_bytes(), &forgetful);
    assert!(
        rewritten.contains("behind another beginning"),
        "{rewritten}"
    );
    let not_text = error(b"{\"prompt\": \"\xff\"}", &roles);
    assert!(
        not_text.contains("is no UTF-8 at its byte 12"),
        "{not_text}"
    );
    std::fs::write(&path, "\n\n").unwrap();
    let empty = read_examples(&path, &tokenizer, &roles)
        .unwrap_err()
        .to_string();
    assert!(empty.contains("holds no example"), "{empty}");
}
