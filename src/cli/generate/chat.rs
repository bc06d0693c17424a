//! `gpu-tlm generate --chat`: a conversation with a model, by its own chat template.

use std::io::{BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::output::visible;
use crate::Error;
use crate::data::chat::{ChatTemplate, Message, Role};
use crate::data::tokenizer::Tokenizer;
use crate::decode::{DecodeError, Generator, Job, News, Overflow, Reason, generate_all};

/// A conversation under way.
pub(super) struct Chat {
    template: ChatTemplate,
    tokenizer: Arc<Tokenizer>,
    /// How answers are drawn; its prompt is the conversation's.
    job: Job,
    messages: Vec<Message>,
}

/// What a line of the user asks for.
enum Line {
    Say(String),
    Reset,
    Exit,
}

const HELP: &str =
    "Type a message. /reset begins anew, /exit or Ctrl-D ends; Ctrl-C ends an answer.";

impl Chat {
    pub(super) fn new(
        template: ChatTemplate,
        tokenizer: Arc<Tokenizer>,
        job: Job,
        system: Option<&str>,
    ) -> Self {
        let system = system.map(|text| Message::new(Role::System, text));
        Self {
            template,
            tokenizer,
            job,
            messages: system.into_iter().collect(),
        }
    }

    /// The tokens of the conversation with one more question, up to where the answer begins.
    ///
    /// # Errors
    /// When the template does not take it.
    pub(super) fn ask(&mut self, question: &str) -> Result<Vec<u32>, Error> {
        self.messages.push(Message::new(Role::User, question));
        let prompt = self.prompt();
        if prompt.is_err() {
            self.messages.pop();
        }
        prompt
    }

    fn prompt(&self) -> Result<Vec<u32>, Error> {
        Ok(self
            .tokenizer
            .encode(&self.template.render(&self.messages, true)?))
    }

    /// The job of a prompt.
    pub(super) fn job_of(&self, prompt: Vec<u32>) -> Job {
        let mut job = self.job.clone();
        job.request.prompt = prompt;
        job
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.messages
            .retain(|message| message.role() == Role::System);
    }

    /// Reads lines to the end of standard input and answers each.
    ///
    /// # Errors
    /// When the model does not fit or the device fails.
    pub(super) fn talk(mut self, generator: &mut Generator) -> Result<(), Error> {
        let is_terminal = std::io::stdin().is_terminal();
        let stop = stop_answers();
        if is_terminal {
            crate::cli::print(&format!("{HELP}\n"))?;
        }
        let mut lines = std::io::stdin().lock();
        while let Some(line) = read_line(&mut lines, is_terminal)? {
            match line {
                Line::Exit => break,
                Line::Reset => {
                    self.reset();
                    tracing::info!("the conversation begins anew");
                }
                Line::Say(question) => match self.ask(&question) {
                    Ok(prompt) => self.answer(generator, prompt, &stop)?,
                    // The next question may do.
                    Err(error) => tracing::error!("{error}"),
                },
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        generator: &mut Generator,
        mut prompt: Vec<u32>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let context_length = generator.config().context_length;
        let wanted = self.job.request.max_new_tokens;
        while prompt.len().saturating_add(wanted) > context_length && self.forget_oldest() {
            prompt = self.prompt()?;
            tracing::warn!(
                "the oldest question and its answer were forgotten, since the context is {context_length} tokens"
            );
        }
        self.job.request.prompt = prompt;
        self.job.request.overflow = Overflow::Stop;
        let mut text = String::new();
        let is_terminal = std::io::stdout().is_terminal();
        stop.begin();
        let ending = generate_all(
            generator,
            std::slice::from_ref(&self.job),
            Some(&self.tokenizer),
            &stop.wanted,
            &mut |news| match news {
                News::Piece(_, _, piece) => {
                    let shown = if is_terminal {
                        visible(piece)
                    } else {
                        piece.to_owned()
                    };
                    crate::cli::print_on(&shown)
                }
                News::Done(_, completion) => {
                    if let Reason::Fault(fault) = completion.reason {
                        return Err(DecodeError::from(fault).into());
                    }
                    text = completion.text;
                    crate::cli::print_on("\n")
                }
                News::Begin(..) => Ok(ControlFlow::Continue(())),
            },
        );
        stop.end();
        self.messages.push(Message::new(Role::Assistant, &text));
        // Each answer is a draw of its own.
        self.job.request.sample += 1;
        match ending {
            Err(Error::Decode(DecodeError::Stopped)) => Ok(()),
            ending => ending,
        }
    }

    /// Leaves out the first question and its answer, and says whether there was one before the last.
    fn forget_oldest(&mut self) -> bool {
        let is_question = |message: &Message| message.role() == Role::User;
        let places = self
            .messages
            .iter()
            .enumerate()
            .filter(|(_, message)| is_question(message));
        let places: Vec<usize> = places.map(|(place, _)| place).take(2).collect();
        let [first, second] = places[..] else {
            return false;
        };
        self.messages.drain(first..second);
        true
    }
}

/// The next line that says anything.
fn read_line(lines: &mut impl BufRead, is_terminal: bool) -> Result<Option<Line>, Error> {
    let failed = |source| Error::Io {
        action: "read",
        path: "standard input".into(),
        source,
    };
    loop {
        if is_terminal {
            crate::cli::print("> ")?;
        }
        let mut line = String::new();
        if lines.read_line(&mut line).map_err(failed)? == 0 {
            if is_terminal {
                crate::cli::print("\n")?;
            }
            return Ok(None);
        }
        return Ok(Some(match line.trim() {
            "" => continue,
            "/exit" => Line::Exit,
            "/reset" => Line::Reset,
            text => Line::Say(text.to_owned()),
        }));
    }
}

/// What Ctrl-C does: it ends an answer, or the program while none is under way.
struct Stop {
    wanted: Arc<AtomicBool>,
    is_answering: Arc<AtomicBool>,
}

impl Stop {
    fn begin(&self) {
        self.wanted.store(false, Ordering::Relaxed);
        self.is_answering.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        self.is_answering.store(false, Ordering::Relaxed);
    }
}

fn stop_answers() -> Stop {
    let stop = Stop {
        wanted: Arc::default(),
        is_answering: Arc::default(),
    };
    let (wanted, is_answering) = (stop.wanted.clone(), stop.is_answering.clone());
    crate::cli::at_interrupt(move || {
        // A second one while an answer is ending.
        let is_second = wanted.swap(true, Ordering::Relaxed);
        if is_second || !is_answering.load(Ordering::Relaxed) {
            let _ = crate::cli::print("\n");
            std::process::exit(crate::cli::INTERRUPTED);
        }
    });
    stop
}
