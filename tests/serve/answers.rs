//! What requests are answered with.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Response;
use super::{CONTEXT_LENGTH, Server, open_stream};

fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// Text and end of each choice of a stream.
fn streamed(response: &Response) -> Vec<(String, Value)> {
    let mut choices: Vec<(String, Value)> = Vec::new();
    for event in response.events() {
        for choice in event["choices"].as_array().unwrap() {
            let index = count(&choice["index"]);
            if choices.len() <= index {
                choices.resize(index + 1, (String::new(), Value::Null));
            }
            assert!(choices[index].1.is_null(), "nothing follows the end");
            choices[index].0 += choice["text"].as_str().unwrap();
            choices[index].1 = choice["finish_reason"].clone();
        }
    }
    choices
}

/// A list of the first choice's log-probabilities, as a stream gives it in parts.
fn streamed_list(response: &Response, name: &str) -> Vec<Value> {
    let events = response.events();
    let choices = events.iter().filter_map(|event| event["choices"].get(0));
    let choices = choices.filter(|choice| choice["index"] == 0);
    let lists = choices.map(|choice| choice["logprobs"][name].as_array().unwrap().clone());
    lists.flatten().collect()
}

fn whole(answer: &Value) -> Vec<(String, Value)> {
    let choices = answer["choices"].as_array().unwrap();
    let choices = choices.iter().enumerate().map(|(i, choice)| {
        assert_eq!(choice["index"], i);
        let text = choice["text"].as_str().unwrap().to_owned();
        (text, choice["finish_reason"].clone())
    });
    choices.collect()
}

#[test]
fn an_answer_has_the_form_of_the_api() {
    let server = Server::start(&[]);
    let body = json!({ "prompt": "Once upon", "max_tokens": 6, "seed": 3, "model": "serve-run" });
    let answer = server.complete(&body);
    let keys: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys,
        ["id", "object", "created", "model", "choices", "usage"]
    );
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["model"], "serve-run");
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], 6);
    let prompt_tokens = usage["prompt_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], prompt_tokens + 6);
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let default = server.complete(&json!({ "prompt": "Once", "seed": 3 }));
    assert_eq!(default["usage"]["completion_tokens"], 16);

    let models = server.get("/v1/models").json();
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][0]["id"], "serve-run");
    assert_eq!(server.get("/v1/models/serve-run").status, 200);
    assert_eq!(server.get("/v1/models/other").status, 404);
    assert_eq!(server.get("/health").status, 200);
    let info = server.get("/api/info").json();
    assert_eq!(info["context_length"], CONTEXT_LENGTH);
    assert!(info["tokens_per_s"].as_f64().unwrap() > 0.0);
    let page = server.get("/");
    assert!(page.body.contains("<textarea"));
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    assert_eq!(page.header("access-control-allow-origin"), None);

    let wanted = [
        "gpu_tlm_requests_total{path=\"/v1/completions\",status=\"200\"} 2",
        "gpu_tlm_generated_tokens_total 22",
        "gpu_tlm_queue_length 0",
        "gpu_tlm_active_sequences 0",
        "gpu_tlm_time_to_first_token_seconds_count 2",
        "gpu_tlm_sequence_tokens_per_second_count 2",
    ];
    // The last answer is sent before its sequence is counted as gone.
    let started = Instant::now();
    loop {
        let metrics = server.get("/metrics").body;
        let has = |line: &&str| metrics.lines().any(|l| l == *line);
        match wanted.iter().find(|line| !has(line)) {
            None => break,
            Some(line) => assert!(
                started.elapsed() < Duration::from_secs(5),
                "{line} in\n{metrics}"
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stream_gives_what_a_whole_answer_does() {
    let server = Server::start(&[]);
    for change in [
        json!({}),
        json!({ "n": 3 }),
        json!({ "echo": true }),
        json!({ "prompt": ["Once", "The cat"], "n": 2, "temperature": 0.5, "top_k": 9 }),
        json!({ "max_tokens": 0, "echo": true }),
        json!({ "max_tokens": 0 }),
        json!({ "stop": ["e", "a"] }),
    ] {
        let mut body = json!({ "prompt": "Once upon", "max_tokens": 8, "seed": 5 });
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let answer = server.complete(&body);
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
        let response = server.post(&body);
        assert_eq!(streamed(&response), whole(&answer), "{change}");
        let events = response.events();
        let (last, rest) = events.split_last().unwrap();
        assert_eq!(last["usage"], answer["usage"], "{change}");
        assert_eq!(last["choices"], json!([]));
        assert!(rest.iter().all(|event| event["usage"].is_null()));
        assert!(
            rest.iter()
                .all(|event| event["object"] == "text_completion")
        );
    }
}

#[test]
fn every_form_of_a_prompt_means_the_same() {
    let server = Server::start(&[]);
    let with = |prompt: Value, n: usize| {
        let body = json!({ "prompt": prompt, "max_tokens": 6, "seed": 5, "n": n });
        let texts = whole(&server.complete(&body)).into_iter();
        texts.map(|(text, _)| text).collect::<Vec<_>>()
    };
    let [once, cat] = ["Once", "The cat"].map(|text| with(json!(text), 2));
    assert_ne!(once[0], once[1], "samples differ");
    assert_eq!(
        with(json!(["Once", "The cat"]), 2),
        [once.clone(), cat].concat()
    );
    let tokenizer = super::RUN.join("tokenizer");
    let tokenizer = gpu_tlm::data::tokenizer::Tokenizer::load(&tokenizer).unwrap();
    let ids = tokenizer.encode("Once");
    assert_eq!(with(json!(ids), 2), once);
    assert_eq!(with(json!([ids, ids]), 2), [&once[..], &once].concat());
    assert_eq!(with(json!("Once"), 1)[..], once[..1]);
    let start = tokenizer.token_id("<|endoftext|>").unwrap();
    assert_eq!(with(json!([start]), 1), with(Value::Null, 1));
    assert_eq!(with(json!([start]), 1), with(json!(""), 1));
}

#[test]
fn a_text_ends_before_its_stop_string() {
    let server = Server::start(&[]);
    let mut body = json!({ "prompt": "Once", "max_tokens": 40, "seed": 5 });
    let free = server.text(&body);
    let chars: Vec<char> = free.chars().collect();
    let stop: String = chars[chars.len() / 2..][..2].iter().collect();
    body["stop"] = json!([stop, "not in there"]);
    let answer = server.complete(&body);
    assert_eq!(
        answer["choices"][0]["text"],
        free.split(&stop).next().unwrap()
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() < 40);
}

#[test]
fn log_probabilities_are_those_of_the_distribution() {
    let server = Server::start(&[]);
    let body = json!({
        "prompt": "Once upon a", "max_tokens": 4, "temperature": 0, "echo": true, "logprobs": 3,
    });
    let answer = server.complete(&body);
    let choice = &answer["choices"][0];
    let logprobs = &choice["logprobs"];
    let list = |name: &str| logprobs[name].as_array().unwrap().clone();
    let (tokens, scores, tops) = (list("tokens"), list("token_logprobs"), list("top_logprobs"));
    // The ids stand for the same text.
    let tokenizer = super::RUN.join("tokenizer");
    let tokenizer = gpu_tlm::data::tokenizer::Tokenizer::load(&tokenizer).unwrap();
    let ids: Vec<u32> = serde_json::from_value(logprobs["token_ids"].clone()).unwrap();
    assert_eq!(
        tokenizer.decode(&ids).unwrap(),
        choice["text"].as_str().unwrap().as_bytes()
    );
    let n = count(&answer["usage"]["total_tokens"]);
    assert_eq!(
        [
            tokens.len(),
            scores.len(),
            tops.len(),
            list("text_offset").len()
        ],
        [n; 4]
    );
    assert!(scores[0].is_null() && tops[0].is_null());
    let texts: Vec<_> = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(texts.concat(), choice["text"].as_str().unwrap());
    let drawn = count(&answer["usage"]["completion_tokens"]);
    for i in 1..n {
        let score = scores[i].as_f64().unwrap();
        let top = tops[i].as_object().unwrap();
        assert!((3..=4).contains(&top.len()) && score <= 0.0);
        assert_eq!(top[texts[i]].as_f64(), Some(score));
        let best = top
            .values()
            .map(|s| s.as_f64().unwrap())
            .fold(f64::MIN, f64::max);
        // Without chance, the likeliest is drawn.
        assert!(i < n - drawn || score == best, "{i}: {score} of {best}");
    }
    // What was drawn has the same scores as a prompt.
    let again = json!({
        "prompt": choice["text"], "max_tokens": 0, "echo": true, "logprobs": 3,
    });
    let again = server.complete(&again)["choices"][0]["logprobs"]["token_logprobs"].clone();
    for (i, (a, b)) in scores
        .iter()
        .zip(again.as_array().unwrap())
        .enumerate()
        .skip(1)
    {
        let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
        assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{i}: {a} and {b}");
    }
}

#[test]
fn a_stream_gives_the_same_log_probabilities() {
    let server = Server::start(&[]);
    let mut body = json!({
        "prompt": ["Once upon", "Zoë"], "max_tokens": 12, "seed": 2, "echo": true, "logprobs": 2,
        "stop": ["e", "the end"],
    });
    let answer = server.complete(&body);
    body["stream"] = json!(true);
    let response = server.post(&body);
    for name in [
        "tokens",
        "token_logprobs",
        "top_logprobs",
        "text_offset",
        "token_ids",
    ] {
        let expected = &answer["choices"][0]["logprobs"][name];
        assert_eq!(&json!(streamed_list(&response, name)), expected, "{name}");
    }
}

/// The checkpoint with an embedding that is not a number, without the checksums that would tell.
fn damaged_checkpoint(folder: &std::path::Path, token: usize) -> String {
    let bytes = std::fs::read(super::RUN.join("checkpoints/latest.safetensors")).unwrap();
    let header = safetensors::SafeTensors::read_metadata(&bytes).unwrap().1;
    let mut metadata = header.metadata().clone().unwrap();
    metadata.retain(|name, _| !name.ends_with("crc32c"));
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = file.tensors();
    let (_, embeddings) = tensors
        .iter_mut()
        .find(|(name, _)| name == "token_embeddings.weight")
        .unwrap();
    let (shape, mut data) = (embeddings.shape().to_vec(), embeddings.data().to_vec());
    let at = token * shape[1] * 4;
    data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let kind = embeddings.dtype();
    *embeddings = safetensors::tensor::TensorView::new(kind, shape, &data).unwrap();
    let bytes = safetensors::serialize(tensors, Some(metadata)).unwrap();
    let path = folder.join("damaged.safetensors");
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_sequence_that_fails_fails_its_request_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = damaged_checkpoint(folder.path(), 50);
    let server = Server::start(&["--checkpoint", &path]);
    let mut beside = open_stream(&server, &super::long());
    beside.read_to("data: ");
    for stream in [false, true] {
        for prompt in [json!([50]), json!([[51], [50]])] {
            let body = json!({ "prompt": prompt, "max_tokens": 3, "stream": stream, "seed": 1 });
            let response = server.post(&body);
            // A stream that has begun with another choice ends with the error.
            if response.status == 200 && stream {
                let last = response.body.trim_end().lines().last().unwrap();
                assert!(last.starts_with("data: {\"error\""), "{last}");
            } else {
                let (status, _, message) = response.error();
                assert_eq!(status, 500, "{body}");
                assert!(message.contains("NaN"), "{message}");
            }
        }
    }
    server.complete(&json!({ "prompt": [51], "max_tokens": 3, "seed": 1 }));
    beside.read_to("\"index\":1,");
}

#[test]
fn many_clients_at_once_get_what_each_gets_alone() {
    let server = Server::start(&["--slots", "3"]);
    let bodies: Vec<Value> = (0..10)
        .map(|i| {
            let prompt = ["Once", "The cat", "One day the dog", "Theo"][i % 4];
            let temperature = [0.0, 0.7, 1.0][i % 3];
            json!({
                "prompt": prompt, "max_tokens": 5 + 3 * i, "seed": i, "temperature": temperature,
                "top_p": 0.9, "stream": i % 2 == 1,
            })
        })
        .collect();
    let text = |body: &Value| {
        let response = server.post(body);
        if body["stream"] == true {
            streamed(&response)
        } else {
            whole(&response.json())
        }
    };
    let alone: Vec<_> = bodies.iter().map(text).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = bodies
            .iter()
            .map(|body| scope.spawn(|| text(body)))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    assert_eq!(together, alone);
    // A stream beside them changes nothing either.
    let mut beside = open_stream(&server, &super::long());
    beside.read_to("data: ");
    assert_eq!(text(&bodies[0]), alone[0]);
}

#[test]
fn requests_that_cannot_be_answered_are_refused_with_the_reason() {
    let server = Server::start(&[]);
    for (body, status, param, part) in [
        (json!({ "max_tokens": 65 }), 400, "max_tokens", "64 tokens"),
        (
            json!({ "prompt": "x ".repeat(70) }),
            400,
            "prompt",
            "shorten",
        ),
        (
            json!({ "prompt": [300] }),
            400,
            "prompt",
            "vocabulary of 300",
        ),
        (json!({ "suffix": "x" }), 400, "suffix", "not supported"),
        (
            json!({ "logit_bias": { "5": 1 } }),
            400,
            "logit_bias",
            "not supported",
        ),
        (json!({ "best_of": 4 }), 400, "best_of", "not supported"),
        (
            json!({ "presence_penalty": 1 }),
            400,
            "presence_penalty",
            "not supported",
        ),
        (json!({ "beam_width": 4 }), 400, "beam_width", "no field"),
        (
            json!({ "temperature": -1 }),
            400,
            "temperature",
            "at least 0",
        ),
        (
            json!({ "model": "gpt-4" }),
            404,
            "model",
            "'gpt-4' does not exist; 'serve-run'",
        ),
    ] {
        let (found, field, message) = server.post(&body).error();
        assert_eq!((found, field), (status, json!(param)), "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
    let wrong = super::client::send(
        &server.address,
        "POST",
        "/v1/completions",
        &[("Content-Type", "application/json")],
        "{\"prompt\": ",
    );
    assert_eq!(wrong.error().0, 400);
    assert_eq!(server.get("/v1/nothing").error().0, 404);
    assert_eq!(server.get("/v1/completions").error().0, 405);
    // By its file the model is found too.
    let checkpoint = super::RUN.join("checkpoints/latest.safetensors");
    server.complete(&json!({ "model": checkpoint, "max_tokens": 1 }));
}
