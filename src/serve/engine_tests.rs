//! The loop with a decoder that does as it is told.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::*;
use crate::decode::{Fault, Finish, NewToken};
use crate::gpu::GpuError;
use crate::serve::choice::{Choice, Piece};
use crate::serve::fields;
use crate::serve::model::{ServedModel, tests::small};
use crate::serve::queue::Refusal;

/// Gives each sequence its prompt's first token again and again.
#[derive(Default)]
struct Echo {
    sequences: Vec<(u64, Request, usize)>,
    next: u64,
    cancelled: BTreeSet<u64>,
    /// Most sequences that were under way at once.
    most: usize,
    /// A prompt whose sequence fails.
    fails_at: Option<u32>,
    /// Steps until the device fails.
    device_steps: Option<usize>,
    on_step: Option<Box<dyn FnMut(usize)>>,
    steps: usize,
}

impl Decoder for Echo {
    type Id = u64;

    fn add(&mut self, request: Request) -> Result<u64, DecodeError> {
        self.next += 1;
        self.sequences.push((self.next, request, 0));
        self.most = self.most.max(self.sequences.len());
        Ok(self.next)
    }

    fn cancel(&mut self, id: u64) {
        self.sequences.retain(|sequence| sequence.0 != id);
        assert!(self.cancelled.insert(id), "{id} was cancelled twice");
    }

    fn step(&mut self) -> Result<Vec<(u64, Event)>, Error> {
        self.steps += 1;
        if let Some(on_step) = &mut self.on_step {
            on_step(self.steps);
        }
        if self.device_steps.is_some_and(|steps| self.steps > steps) {
            return Err(GpuError::Device("lost".to_owned()).into());
        }
        let mut events = Vec::new();
        for (id, request, added) in &mut self.sequences {
            let token = request.prompt[0];
            if Some(token) == self.fails_at {
                events.push((*id, Event::Failed(Fault::NotANumber(*added))));
                *added = request.max_new_tokens;
                continue;
            }
            *added += 1;
            let token = NewToken {
                id: token,
                logprobs: None,
            };
            events.push((*id, Event::Token(token)));
            if *added == request.max_new_tokens {
                events.push((*id, Event::Finished(Finish::Length)));
            }
        }
        self.sequences
            .retain(|(_, request, added)| *added < request.max_new_tokens);
        Ok(events)
    }

    fn attention(&mut self, window: &[u32], at: HeadAt) -> Result<Vec<f32>, Error> {
        match at.layer {
            0 => Ok(vec![self.steps as f32; window.len()]),
            1 => Err(DecodeError::EmptyPrompt.into()),
            _ => Err(GpuError::Device("lost".to_owned()).into()),
        }
    }
}

type Received = UnboundedReceiver<Result<Piece, String>>;

/// A request of `n` sequences, and where its pieces come out.
fn jobs(
    model: &ServedModel,
    prompt: &str,
    n: usize,
    more: serde_json::Value,
) -> (VecDeque<Job>, Received) {
    let mut body = json!({ "prompt": prompt, "max_tokens": 5, "n": n });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let request = fields::parse(body.to_string().as_bytes(), model).unwrap();
    let (pieces, received) = unbounded_channel();
    let prompt = &request.prompts[0];
    let job = |index| Job {
        request: Request {
            prompt: prompt.tokens.clone(),
            max_new_tokens: request.max_tokens,
            ..Request::default()
        },
        choice: Choice::new(index, &request, prompt, &model.tokenizer, &model.ends),
        pieces: pieces.clone(),
        submitted: Instant::now(),
    };
    ((0..n).map(job).collect(), received)
}

fn texts(received: &mut Received, n: usize) -> Vec<String> {
    let mut texts = vec![String::new(); n];
    while let Ok(piece) = received.try_recv() {
        let piece = piece.unwrap();
        texts[piece.index] += &piece.text;
    }
    texts
}

#[test]
fn every_sequence_of_every_request_is_answered_and_no_slot_is_taken_twice() {
    let model = small();
    let queue = Queue::new(3, 10);
    let mut received: Vec<_> = ["a", "c", "h"]
        .into_iter()
        .map(|prompt| {
            let (jobs, received) = jobs(&model, prompt, 4, json!({}));
            queue.push(jobs).unwrap();
            (prompt, received)
        })
        .collect();
    queue.close();
    let mut decoder = Echo::default();
    run(&mut decoder, &queue, &Metrics::default()).unwrap();
    for (prompt, received) in &mut received {
        assert_eq!(texts(received, 4), vec![prompt.repeat(5); 4]);
    }
    assert_eq!(decoder.most, 3);
    assert!(decoder.cancelled.is_empty());
}

#[test]
fn a_request_of_many_sequences_does_not_hold_up_another() {
    let model = small();
    let queue = Queue::new(2, 10);
    let (many, mut of_many) = jobs(&model, "a", 20, json!({}));
    let (one, mut of_one) = jobs(&model, "c", 1, json!({}));
    queue.push(many).unwrap();
    queue.push(one).unwrap();
    queue.close();
    let (ended, ends) = std::sync::mpsc::channel();
    let mut decoder = Echo {
        on_step: Some(Box::new(move |step| {
            if step == 6 {
                ended.send(texts(&mut of_one, 1)).unwrap();
            }
        })),
        ..Echo::default()
    };
    run(&mut decoder, &queue, &Metrics::default()).unwrap();
    assert_eq!(ends.recv().unwrap(), ["ccccc"]);
    assert_eq!(texts(&mut of_many, 20), vec!["aaaaa"; 20]);
}

#[test]
fn a_stop_string_and_a_hang_up_free_their_slots() {
    let model = small();
    let queue = Queue::new(2, 10);
    let (stopping, mut stopped) = jobs(&model, "a", 1, json!({ "stop": "aa", "max_tokens": 9 }));
    let (left, leaving) = jobs(&model, "c", 3, json!({ "max_tokens": 9 }));
    queue.push(stopping).unwrap();
    queue.push(left).unwrap();
    queue.close();
    let mut leaving = Some(leaving);
    let mut decoder = Echo {
        on_step: Some(Box::new(move |step| {
            if step == 4 {
                leaving.take();
            }
        })),
        ..Echo::default()
    };
    run(&mut decoder, &queue, &Metrics::default()).unwrap();
    let mut last = None;
    while let Ok(piece) = stopped.try_recv() {
        last = Some(piece.unwrap());
    }
    assert_eq!(last.unwrap().finish, Some("stop"));
    assert_eq!(decoder.steps, 4, "nothing is generated for nobody");
    assert!(decoder.sequences.is_empty());
    assert_eq!(queue.lengths(), (0, 0));
}

#[test]
fn a_fault_of_a_sequence_is_its_own() {
    let model = small();
    let queue = Queue::new(2, 10);
    let (failing, mut failed) = jobs(&model, "a", 1, json!({}));
    let (other, mut received) = jobs(&model, "c", 1, json!({}));
    queue.push(failing).unwrap();
    queue.push(other).unwrap();
    queue.close();
    let mut decoder = Echo {
        fails_at: Some(model.tokenizer.encode("a")[0]),
        ..Echo::default()
    };
    run(&mut decoder, &queue, &Metrics::default()).unwrap();
    assert!(failed.try_recv().unwrap().unwrap_err().contains("NaN"));
    assert_eq!(texts(&mut received, 1), ["ccccc"]);
}

type Looked = oneshot::Receiver<Result<Vec<f32>, String>>;

fn look(queue: &Queue, layer: usize) -> Result<Looked, Refusal> {
    let (answer, answered) = oneshot::channel();
    let look = Look {
        tokens: vec![0],
        at: HeadAt { layer, head: 0 },
        answer,
    };
    queue.look(look).map(|()| answered)
}

#[test]
fn looks_are_answered_one_between_two_steps() {
    let model = small();
    let queue = Queue::new(1, 10);
    let (jobs, mut received) = jobs(&model, "a", 1, json!({}));
    queue.push(jobs).unwrap();
    let left = look(&queue, 2).unwrap();
    let mut looks: Vec<Looked> = (0..7).map(|_| look(&queue, 0).unwrap()).collect();
    let mut wrong = look(&queue, 1).unwrap();
    // Nobody waits for what would end everything.
    drop(left);
    queue.close();
    assert_eq!(look(&queue, 0).unwrap_err(), Refusal::Closed);
    run(&mut Echo::default(), &queue, &Metrics::default()).unwrap();
    let steps = looks.iter_mut().map(|look| look.try_recv().unwrap());
    let steps: Vec<f32> = steps.map(|steps| steps.unwrap()[0]).collect();
    // The sequence has five steps; what is left then is answered, too.
    assert_eq!(steps, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0]);
    assert!(wrong.try_recv().unwrap().unwrap_err().contains("no tokens"));
    assert_eq!(texts(&mut received, 1), ["aaaaa"]);
}

#[test]
fn as_many_looks_wait_as_requests_may() {
    for (max_waiting, most) in [(0, 1), (1, 1), (3, 3)] {
        let queue = Queue::new(1, max_waiting);
        let mut waiting: Vec<_> = (0..most).map(|_| look(&queue, 0).unwrap()).collect();
        assert_eq!(look(&queue, 0).unwrap_err(), Refusal::Full);
        waiting.pop();
        waiting.push(look(&queue, 0).unwrap());
        queue.abandon();
        assert!(waiting.iter_mut().all(|look| look.try_recv().is_err()));
    }
}

#[test]
fn a_device_that_fails_at_a_look_ends_everything() {
    let queue = Queue::new(1, 10);
    let mut looked = look(&queue, 2).unwrap();
    queue.close();
    assert!(run(&mut Echo::default(), &queue, &Metrics::default()).is_err());
    assert!(looked.try_recv().is_err());
}

#[test]
fn a_device_that_fails_ends_everything() {
    let model = small();
    let queue = Arc::new(Queue::new(1, 10));
    let (jobs_a, mut a) = jobs(&model, "a", 1, json!({}));
    let (jobs_c, mut c) = jobs(&model, "c", 1, json!({}));
    queue.push(jobs_a).unwrap();
    queue.push(jobs_c).unwrap();
    let mut decoder = Echo {
        device_steps: Some(2),
        ..Echo::default()
    };
    assert!(run(&mut decoder, &queue, &Metrics::default()).is_err());
    queue.abandon();
    assert_eq!(texts(&mut a, 1), ["aa"]);
    assert!(a.is_closed() && c.is_closed());
    assert!(c.try_recv().is_err());
    let (late, _received) = jobs(&model, "a", 1, json!({}));
    assert_eq!(queue.push(late), Err(Refusal::Closed));
}

#[test]
fn the_queue_takes_as_many_requests_as_it_may() {
    let model = small();
    let queue = Queue::new(2, 2);
    let mut received = Vec::new();
    let mut push = |n| {
        let (jobs, receiver) = jobs(&model, "a", n, json!({}));
        received.push(receiver);
        queue.push(jobs)
    };
    // Two find a slot, two wait.
    for n in [1, 1, 1, 3] {
        assert_eq!(push(n), Ok(()));
    }
    assert_eq!(push(1), Err(Refusal::Full));
    assert_eq!(queue.lengths(), (0, 6));
    assert_eq!(queue.take(0).unwrap().jobs.len(), 2);
    assert_eq!(push(1), Err(Refusal::Full));
    // A slot that is freed takes one.
    assert_eq!(queue.take(1).unwrap().jobs.len(), 1);
    assert_eq!(push(1), Ok(()));
    received.clear();
    let left = queue.take(1).unwrap();
    assert_eq!((left.jobs.len(), left.given_up), (0, 4));
    assert_eq!(queue.lengths(), (1, 0), "nobody waits for them");
}
