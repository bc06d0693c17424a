//! What the tokens of a text look at.

use serde_json::{Value, json};

use super::client::send;
use super::{CONTEXT_LENGTH, Server, long, open_stream};

const PATH: &str = "/api/attention";

fn looked_at(server: &Server, body: &Value) -> Value {
    let response = server.post_to(PATH, body);
    assert_eq!(response.status, 200, "{body}: {}", response.body);
    response.json()
}

fn texts(answer: &Value) -> Vec<&str> {
    let tokens = answer["tokens"].as_array().unwrap();
    tokens.iter().map(|token| token.as_str().unwrap()).collect()
}

#[test]
fn rows_are_what_each_token_looks_at() {
    let server = Server::start(&[]);
    let text = "Once upon a time there was a cat";
    for (head, body) in [
        (0, json!({ "prompt": text })),
        (1, json!({ "prompt": text, "layer": 0, "head": 1 })),
        (0, json!({ "prompt": "x".repeat(CONTEXT_LENGTH) })),
        (0, json!({ "prompt": "" })),
    ] {
        let answer = looked_at(&server, &body);
        assert_eq!(
            (&answer["layer"], &answer["head"]),
            (&json!(0), &json!(head))
        );
        let texts = texts(&answer);
        let said = if body["prompt"] == "" {
            "<|endoftext|>"
        } else {
            body["prompt"].as_str().unwrap()
        };
        assert_eq!(texts.concat(), said);
        assert_eq!(answer["length"], texts.len());
        let weights: Vec<Vec<f64>> = serde_json::from_value(answer["weights"].clone()).unwrap();
        assert_eq!(weights.len(), texts.len());
        for (i, row) in weights.iter().enumerate() {
            assert_eq!(row.len(), i + 1, "none looks at a later one");
            assert!(row.iter().all(|weight| (0.0..=1.0).contains(weight)));
            let sum: f64 = row.iter().sum();
            // Each weight is rounded to the nearest of 10,000 parts.
            assert!(
                (sum - 1.0).abs() <= 0.5e-4 * row.len() as f64 + 1e-5,
                "{i}: {sum}"
            );
        }
        // Rows that are all the same weight would be of no head that was trained.
        let n = weights.len();
        let last = &weights[n - 1];
        assert!(n == 1 || last.iter().any(|&weight| (weight - last[0]).abs() > 1e-3));
    }
    let [a, b] = [0, 1].map(|head| looked_at(&server, &json!({ "prompt": text, "head": head })));
    assert_ne!(a["weights"], b["weights"], "heads differ");
}

#[test]
fn ids_mean_what_text_does_and_follow_it() {
    let server = Server::start(&[]);
    let body = json!({ "prompt": "Once upon", "max_tokens": 12, "temperature": 0, "logprobs": 0 });
    let answer = server.complete(&body);
    let choice = &answer["choices"][0];
    let new = choice["logprobs"]["token_ids"].as_array().unwrap().clone();
    assert_eq!(new.len(), 12);
    let whole = looked_at(&server, &json!({ "prompt": "Once upon", "tokens": new }));
    let said = format!("Once upon{}", choice["text"].as_str().unwrap());
    assert_eq!(texts(&whole).concat(), said);
    let tokenizer = super::RUN.join("tokenizer");
    let tokenizer = gpu_tlm::data::tokenizer::Tokenizer::load(&tokenizer).unwrap();
    let mut ids: Vec<Value> = tokenizer
        .encode("Once upon")
        .into_iter()
        .map(Value::from)
        .collect();
    let prompt = looked_at(&server, &json!({ "tokens": ids }));
    assert_eq!(
        prompt,
        looked_at(&server, &json!({ "prompt": "Once upon" }))
    );
    // What follows changes nothing, up to the rounding.
    let [longer, shorter] = [&whole, &prompt].map(|answer| -> Vec<Vec<f64>> {
        serde_json::from_value(answer["weights"].clone()).unwrap()
    });
    for (a, b) in longer.iter().zip(&shorter) {
        assert!(
            a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-4),
            "{a:?} and {b:?}"
        );
    }
    ids.extend(new);
    assert_eq!(looked_at(&server, &json!({ "tokens": ids })), whole);
}

#[test]
fn sequences_under_way_go_on() {
    let server = Server::start(&["--slots", "1"]);
    let text = json!({ "prompt": "Once upon a time" });
    let alone = looked_at(&server, &text);
    let body = json!({ "prompt": "Once", "max_tokens": 50, "n": 3, "seed": 1, "logprobs": 0 });
    let undisturbed = server.complete(&body);
    let mut beside = open_stream(&server, &long());
    beside.read_to("data: ");
    assert_eq!(looked_at(&server, &text), alone, "it needs no slot");
    assert_eq!(server.get("/api/info").json()["active"], 1);
    drop(beside);
    let disturbed = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            for _ in 0..5 {
                assert_eq!(looked_at(&server, &text), alone);
            }
        });
        let disturbed = server.complete(&body);
        looking.join().unwrap();
        disturbed
    });
    assert_eq!(disturbed["choices"], undisturbed["choices"]);
}

#[test]
fn looks_that_cannot_be_answered_are_refused_with_the_reason() {
    let server = Server::start(&[]);
    for (body, status, param, part) in [
        (json!({}), 400, "prompt", "needed"),
        (json!({ "prompt": ["a", "b"] }), 400, "prompt", "a text"),
        (
            json!({ "prompt": "a", "layer": 1 }),
            400,
            "layer",
            "from 0 to 0",
        ),
        (
            json!({ "prompt": "a", "head": 2 }),
            400,
            "head",
            "from 0 to 1",
        ),
        (
            json!({ "prompt": "a", "head": -1 }),
            400,
            "head",
            "from 0 to 1",
        ),
        (
            json!({ "tokens": [300] }),
            400,
            "tokens",
            "vocabulary of 300",
        ),
        (
            json!({ "tokens": vec![1; 65] }),
            400,
            "tokens",
            "context of 64",
        ),
        (
            json!({ "prompt": "x ".repeat(70) }),
            400,
            "prompt",
            "context of 64",
        ),
        (
            json!({ "prompt": "a", "max_tokens": 1 }),
            400,
            "max_tokens",
            "no field",
        ),
        (
            json!({ "prompt": "a", "model": "other" }),
            404,
            "model",
            "does not exist",
        ),
    ] {
        let (found, field, message) = server.post_to(PATH, &body).error();
        assert_eq!((found, field), (status, json!(param)), "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
    assert_eq!(server.get(PATH).error().0, 405);
    assert_eq!(
        send(&server.address, "POST", PATH, &[], "{}").error().0,
        415
    );
    let elsewhere = [
        ("Content-Type", "application/json"),
        ("Origin", "http://evil.example"),
    ];
    assert_eq!(
        send(&server.address, "POST", PATH, &elsewhere, "{}")
            .error()
            .0,
        403
    );
    let metrics = server.get("/metrics").body;
    let line = format!("requests_total{{path=\"{PATH}\",status=\"400\"}} 9");
    assert!(metrics.contains(&line), "{line} in\n{metrics}");
}
