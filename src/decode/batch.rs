//! Many requests through a generator's slots, and what comes of each, in the order of the requests.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{
    DecodeError, Event, Fault, Finish, Generator, NewToken, Request, SequenceId, TextStream,
};
use crate::Error;
use crate::data::tokenizer::Tokenizer;

/// A request whose tokens become text.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// What to generate.
    pub request: Request,
    /// Strings before the first of which the text ends.
    pub stops: Vec<String>,
}

/// What came of a job.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The prompt as text, without special tokens at its beginning; empty without a tokenizer.
    pub prompt: String,
    /// What follows it, up to a stop string; empty without a tokenizer.
    pub text: String,
    /// All tokens that were drawn, those of the stop string included.
    pub tokens: Vec<NewToken>,
    /// Why there are no more.
    pub reason: Reason,
    /// From the job's beginning to its first token.
    pub first_token: Option<Duration>,
    /// From the job's beginning to its end.
    pub elapsed: Duration,
}

impl Completion {
    /// Tokens a second, of a job's own time: others may have gone on beside it.
    pub fn tokens_per_s(&self) -> f64 {
        tokens_per_s(self.tokens.len(), self.elapsed)
    }
}

/// Tokens a second.
#[allow(
    clippy::cast_precision_loss,
    reason = "a count of tokens is far below 2^52"
)]
pub fn tokens_per_s(tokens: usize, elapsed: Duration) -> f64 {
    if tokens == 0 {
        return 0.0;
    }
    tokens as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// Why a job has no more tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The generator's reason.
    Finish(Finish),
    /// A stop string came up.
    Stop,
    /// Everything was stopped.
    Interrupted,
    /// Its logits are wrong.
    Fault(Fault),
}

impl Reason {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finish(Finish::End) => "end",
            Self::Finish(Finish::Length) => "length",
            Self::Finish(Finish::Context) => "context",
            Self::Stop => "stop",
            Self::Interrupted => "interrupted",
            Self::Fault(_) => "error",
        }
    }
}

/// What there is to tell. Jobs begin, go on and are done one after another in their order, whatever order
/// they are computed in; the first number is the job's index.
#[derive(Debug)]
pub enum News<'a> {
    /// A job begins, with its prompt as text.
    Begin(usize, &'a str),
    /// More tokens of it, and more text, of which either may be none.
    Piece(usize, &'a [NewToken], &'a str),
    /// It is done.
    Done(usize, Completion),
}

/// Whoever is told, and may say that there is no need to go on.
pub type Listener<'a> = dyn FnMut(News<'_>) -> Result<ControlFlow<()>, Error> + 'a;

/// Generates for all jobs, as many at once as there are slots, and tells `on_news` of each as soon as it
/// and those before it are known. Without a tokenizer there is no text. Once `stop` is set, the jobs that
/// have begun end as they are.
///
/// # Errors
/// When a job is wrong, before anything is generated; when the device fails; when a token is not the
/// tokenizer's; [`DecodeError::Stopped`] after `stop`.
///
/// # Panics
/// If another sequence is under way: a bug of the caller.
pub fn generate_all(
    generator: &mut Generator,
    jobs: &[Job],
    tokenizer: Option<&Arc<Tokenizer>>,
    stop: &AtomicBool,
    on_news: &mut Listener<'_>,
) -> Result<(), Error> {
    assert_eq!(generator.active(), 0, "another sequence is under way");
    for job in jobs {
        check_job(generator, job, tokenizer)?;
    }
    let mut batch = Batch {
        begun: VecDeque::new(),
        n_done: 0,
        on_news,
    };
    let mut waiting = jobs.iter();
    loop {
        while generator.active() < generator.slots()
            && let Some(job) = waiting.next()
        {
            let id = generator.add(job.request.clone())?;
            batch.begun.push_back(Sequence::new(id, job, tokenizer)?);
        }
        if batch.report()?.is_break() {
            batch.give_up(generator);
            return Ok(());
        }
        if generator.active() == 0 {
            return Ok(());
        }
        if stop.load(Ordering::Relaxed) {
            batch.give_up(generator);
            let _ = batch.report()?;
            return Err(DecodeError::Stopped.into());
        }
        for (id, event) in generator.step()? {
            batch.take(generator, id, event)?;
        }
    }
}

/// Whether [`generate_all`] would take a job.
///
/// # Errors
/// When it would not.
pub fn check_job(
    generator: &Generator,
    job: &Job,
    tokenizer: Option<&Arc<Tokenizer>>,
) -> Result<(), DecodeError> {
    if tokenizer.is_none() && !job.stops.is_empty() {
        return Err(DecodeError::StopWithoutTokenizer);
    }
    generator.check(&job.request)
}

/// Jobs that have begun and were not told of to their end.
struct Batch<'a, 'l> {
    begun: VecDeque<Sequence>,
    /// Jobs that were told of to their end.
    n_done: usize,
    on_news: &'a mut Listener<'l>,
}

struct Sequence {
    id: SequenceId,
    stream: Option<TextStream>,
    started: Instant,
    is_done: bool,
    completion: Completion,
    /// What was told of it.
    told: Told,
}

#[derive(Default)]
struct Told {
    begun: bool,
    tokens: usize,
    bytes: usize,
}

impl Batch<'_, '_> {
    fn take(
        &mut self,
        generator: &mut Generator,
        id: SequenceId,
        event: Event,
    ) -> Result<(), Error> {
        let sequence = self.begun.iter_mut().find(|sequence| sequence.id == id);
        // What a stop string has ended may have an event left.
        let Some(sequence) = sequence.filter(|sequence| !sequence.is_done) else {
            return Ok(());
        };
        match event {
            Event::Prompt(_) => {}
            Event::Token(token) => {
                if sequence.push(token)? {
                    generator.cancel(id);
                    sequence.end(Reason::Stop);
                }
            }
            Event::Finished(finish) => sequence.end(Reason::Finish(finish)),
            Event::Failed(fault) => sequence.end(Reason::Fault(fault)),
        }
        Ok(())
    }

    /// Ends what is under way.
    fn give_up(&mut self, generator: &mut Generator) {
        for sequence in self.begun.iter_mut().filter(|sequence| !sequence.is_done) {
            generator.cancel(sequence.id);
            sequence.end(Reason::Interrupted);
        }
    }

    /// Tells what is new of the first job that is not done, and goes on to the next where it is.
    fn report(&mut self) -> Result<ControlFlow<()>, Error> {
        while let Some(first) = self.begun.front_mut() {
            if first.report(self.n_done, self.on_news)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if !first.is_done {
                break;
            }
            if let Some(done) = self.begun.pop_front() {
                let news = News::Done(self.n_done, done.completion);
                self.n_done += 1;
                if (self.on_news)(news)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Sequence {
    fn new(id: SequenceId, job: &Job, tokenizer: Option<&Arc<Tokenizer>>) -> Result<Self, Error> {
        let mut stream = tokenizer.map(|tokenizer| TextStream::new(tokenizer.clone(), &job.stops));
        let prompt = match &mut stream {
            Some(stream) => stream.begin(&job.request.prompt)?,
            None => String::new(),
        };
        Ok(Self {
            id,
            stream,
            started: Instant::now(),
            is_done: false,
            completion: Completion {
                prompt,
                text: String::new(),
                tokens: Vec::new(),
                reason: Reason::Interrupted,
                first_token: None,
                elapsed: Duration::ZERO,
            },
            told: Told::default(),
        })
    }

    /// Takes a token, and says whether a stop string is complete.
    fn push(&mut self, token: NewToken) -> Result<bool, Error> {
        let completion = &mut self.completion;
        let elapsed = self.started.elapsed();
        completion.first_token.get_or_insert(elapsed);
        let id = token.id;
        completion.tokens.push(token);
        match &mut self.stream {
            None => Ok(false),
            Some(stream) => {
                completion.text += &stream.push(id)?;
                Ok(stream.is_stopped())
            }
        }
    }

    fn end(&mut self, reason: Reason) {
        let completion = &mut self.completion;
        if let Some(stream) = &mut self.stream {
            completion.text += &stream.finish();
        }
        completion.reason = reason;
        completion.elapsed = self.started.elapsed();
        self.is_done = true;
    }

    fn report(
        &mut self,
        index: usize,
        on_news: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        let (told, completion) = (&mut self.told, &self.completion);
        if !told.begun {
            told.begun = true;
            if on_news(News::Begin(index, &completion.prompt))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let tokens = &completion.tokens[told.tokens..];
        let text = &completion.text[told.bytes..];
        if tokens.is_empty() && text.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        (told.tokens, told.bytes) = (completion.tokens.len(), completion.text.len());
        on_news(News::Piece(index, tokens, text))
    }
}
