//! What becomes of a sequence's events.

use serde_json::json;

use super::*;
use crate::decode::{Fault, NewToken};
use crate::serve::answer;
use crate::serve::fields;
use crate::serve::model::{ServedModel, tests::small};

/// The choice of a request with one prompt.
fn choice(model: &ServedModel, mut body: serde_json::Value) -> Choice {
    body["max_tokens"] = json!(8);
    let request = fields::parse(body.to_string().as_bytes(), model).unwrap();
    let prompt = &request.prompts[0];
    Choice::new(0, &request, prompt, &model.tokenizer, &model.ends)
}

fn scores(logprob: f32, top: &[(u32, f32)]) -> TokenLogprobs {
    TokenLogprobs {
        logprob,
        top: top.to_vec(),
    }
}

/// A new token with the log-probability -1.
fn token(id: u32) -> Event {
    Event::Token(NewToken {
        id,
        logprobs: Some(scores(-1.0, &[(id, -1.0)])),
    })
}

/// The id of each byte.
fn bytes(model: &ServedModel, bytes: &[u8]) -> Vec<u32> {
    let id = |&byte: &u8| {
        let mut all = 0..260;
        all.find(|&id| model.tokenizer.token_bytes(id) == Some(&[byte]))
            .unwrap()
    };
    bytes.iter().map(id).collect()
}

/// All of a choice from its events.
fn whole(mut choice: Choice, events: Vec<Event>) -> Piece {
    let mut pieces = std::collections::BTreeMap::new();
    for event in events {
        if !choice.is_ended() {
            answer::join(&mut pieces, choice.take(event).unwrap());
        }
    }
    assert!(choice.is_ended());
    pieces.remove(&0).unwrap()
}

fn offsets(piece: &Piece) -> Vec<usize> {
    piece.tokens.iter().map(|token| token.offset).collect()
}

#[test]
fn an_echo_with_log_probabilities_has_those_of_the_prompt() {
    let model = small();
    let ids = bytes(&model, b"abc");
    let events = vec![
        Event::Prompt(vec![
            scores(-2.0, &[(7, -0.5), (ids[1], -2.0)]),
            scores(-3.0, &[(8, -0.25)]),
        ]),
        token(ids[0]),
        Event::Finished(Finish::Length),
    ];
    let body = json!({ "prompt": ids, "echo": true, "logprobs": 1 });
    let piece = whole(choice(&model, body), events);
    assert_eq!(piece.text, "abca");
    assert_eq!(piece.finish, Some("length"));
    assert_eq!(offsets(&piece), [0, 1, 2, 3]);
    let names: Vec<_> = [7, 8]
        .map(|id| model.tokenizer.decode(&[id]).unwrap())
        .to_vec();
    let name = |i: usize| String::from_utf8(names[i].clone()).unwrap();
    let value = answer::choice(&piece, Some(1), &model.tokenizer);
    assert_eq!(
        value["logprobs"],
        json!({
            "tokens": ["a", "b", "c", "a"],
            "token_logprobs": [null, -2.0, -3.0, -1.0],
            "top_logprobs": [
                null,
                { name(0): -0.5, "b": -2.0 },
                { name(1): -0.25, "c": -3.0 },
                { "a": -1.0 },
            ],
            "text_offset": [0, 1, 2, 3],
            "token_ids": [ids[0], ids[1], ids[2], ids[0]],
        })
    );
}

#[test]
fn an_echo_alone_needs_no_new_token() {
    let model = small();
    let body = json!({ "prompt": "abc", "echo": true });
    let piece = whole(choice(&model, body), vec![Event::Finished(Finish::Length)]);
    assert_eq!((piece.text.as_str(), piece.generated), ("abc", 0));
}

#[test]
fn log_probabilities_that_do_not_come_are_a_fault() {
    let model = small();
    let plain = Event::Token(NewToken {
        id: 1,
        logprobs: None,
    });
    let mut asked = choice(&model, json!({ "prompt": "abc", "logprobs": 0 }));
    assert!(asked.take(plain.clone()).is_err());
    let mut echo = choice(
        &model,
        json!({ "prompt": "abc", "logprobs": 0, "echo": true }),
    );
    assert!(echo.take(token(1)).is_err());
    let mut unasked = choice(&model, json!({ "prompt": "abc" }));
    assert!(unasked.take(plain).unwrap().tokens.is_empty());
    assert!(unasked.take(Event::Failed(Fault::NotANumber(1))).is_err());
}

#[test]
fn the_end_token_has_a_log_probability_and_no_text() {
    let model = small();
    let [a, end] = [bytes(&model, b"a")[0], model.ends[0]];
    let body = json!({ "prompt": "abc", "logprobs": 0 });
    let piece = whole(choice(&model, body), vec![token(a), token(end)]);
    assert_eq!((piece.text.as_str(), piece.finish), ("a", Some("stop")));
    assert_eq!(offsets(&piece), [0, 1]);
    assert_eq!(piece.tokens[1].id, end);
}

#[test]
fn tokens_of_a_stop_string_are_in_no_text() {
    let model = small();
    let events = bytes(&model, b"ab--c").into_iter().map(token).collect();
    let body = json!({ "prompt": "a", "logprobs": 0, "stop": ["--"] });
    let piece = whole(choice(&model, body), events);
    assert_eq!((piece.text.as_str(), piece.finish), ("ab", Some("stop")));
    assert_eq!(offsets(&piece), [0, 1]);
}

#[test]
fn tokens_come_with_the_text_that_they_make_up() {
    let model = small();
    let mut choice = choice(
        &model,
        json!({ "prompt": "a", "logprobs": 0, "stop": ["xy"] }),
    );
    let mut seen = Vec::new();
    for id in bytes(&model, "é😀xz\u{80}".as_bytes()) {
        let piece = choice.take(token(id)).unwrap();
        seen.push((piece.text.clone(), offsets(&piece)));
    }
    let piece = choice.take(Event::Finished(Finish::Length)).unwrap();
    seen.push((piece.text.clone(), offsets(&piece)));
    let expected = [
        ("", vec![]),
        ("é", vec![0, 0]),
        ("", vec![]),
        ("", vec![]),
        ("", vec![]),
        ("😀", vec![1, 1, 1, 1]),
        ("", vec![]),
        ("xz", vec![2, 3]),
        ("", vec![]),
        ("\u{80}", vec![4, 4]),
        ("", vec![]),
    ];
    let expected = expected.map(|(text, offsets)| (text.to_owned(), offsets));
    assert_eq!(seen, expected);
}

#[test]
fn characters_are_counted_as_lossy_decoding_gives_them() {
    let texts: [&[u8]; 6] = [
        "a😀é".as_bytes(),
        b"\x80a\xE2\x82A\xED\xA0\x80",
        b"\xF0\x9F\x98",
        b"\xC0\xAF\xE2",
        b"",
        b"\xE2\x82\xAC\xE2\x82",
    ];
    for text in texts {
        let mut counter = CharCounter::default();
        for (i, byte) in text.iter().enumerate() {
            let before = counter.push(&[*byte]);
            assert!(before <= String::from_utf8_lossy(&text[..i]).chars().count());
        }
        counter.cut();
        let whole = String::from_utf8_lossy(text).chars().count();
        assert_eq!(counter.chars, whole, "{text:x?}");
    }
}
