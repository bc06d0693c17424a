//! What `gpu-tlm generate` prints: text as it comes, one JSON object, or JSON lines.

use std::fmt::Write;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::decode::{
    Completion, DecodeError, Fault, NewToken, News, Prompt, Reason, TokenLogprobs, tokens_per_s,
};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text as it comes, or tokens where there is no tokenizer.
    Text,
    /// One JSON object at the end.
    Object,
    /// A JSON object a line as each is done.
    Lines,
}

/// Prints what it is told.
pub(super) struct Printer<'a> {
    form: Form,
    prompts: &'a [Prompt],
    num_samples: usize,
    has_text: bool,
    is_terminal: bool,
    /// Whether prompts are left out.
    is_chat: bool,
    /// Those that are done, for one object at the end.
    samples: Vec<Value>,
    n_done: usize,
    n_tokens: usize,
    fault: Option<Fault>,
    /// Tokens of the text under way that were printed as numbers.
    n_printed: usize,
    /// Whether what was printed last has no end of line.
    is_amid_line: bool,
    started: Instant,
    bar: ProgressBar,
}

impl<'a> Printer<'a> {
    pub(super) fn new(form: Form, prompts: &'a [Prompt], num_samples: u32, has_text: bool) -> Self {
        let num_samples = num_samples as usize;
        let n_texts = prompts.len() * num_samples;
        let bar = match form {
            Form::Object | Form::Lines if n_texts > 1 => crate::cli::progress(n_texts),
            _ => ProgressBar::hidden(),
        };
        bar.tick();
        Self {
            form,
            prompts,
            num_samples,
            has_text,
            is_terminal: std::io::stdout().is_terminal(),
            is_chat: false,
            samples: Vec::new(),
            n_done: 0,
            n_tokens: 0,
            fault: None,
            n_printed: 0,
            is_amid_line: false,
            started: Instant::now(),
            bar,
        }
    }

    /// Prints answers without the prompts that they are to.
    pub(super) fn of_chat(self, is_chat: bool) -> Self {
        Self { is_chat, ..self }
    }

    /// Takes news, and says whether anybody reads on.
    pub(super) fn take(&mut self, news: News<'_>) -> Result<ControlFlow<()>, Error> {
        match news {
            News::Begin(index, prompt) if self.form == Form::Text => {
                let header = match self.num_samples {
                    1 => String::new(),
                    _ => format!("--- {}\n", index + 1),
                };
                (self.is_amid_line, self.n_printed) = (true, 0);
                let prompt = if self.is_chat { "" } else { prompt };
                self.print(&format!("{header}{prompt}"))
            }
            News::Piece(_, tokens, text) if self.form == Form::Text => {
                let ids = (!self.has_text).then(|| self.ids(tokens));
                self.print(ids.as_deref().unwrap_or(text))
            }
            News::Begin(..) | News::Piece(..) => Ok(ControlFlow::Continue(())),
            News::Done(index, completion) => self.take_done(index, &completion),
        }
    }

    fn take_done(
        &mut self,
        index: usize,
        completion: &Completion,
    ) -> Result<ControlFlow<()>, Error> {
        self.n_done += 1;
        self.n_tokens += completion.tokens.len();
        self.bar.inc(1);
        if let Reason::Fault(fault) = completion.reason {
            self.fault.get_or_insert(fault);
        }
        if self.form == Form::Text {
            self.is_amid_line = false;
            return crate::cli::print_on("\n");
        }
        let prompt = &self.prompts[index / self.num_samples];
        let with_logprobs = prompt.job.request.logprobs.is_some();
        let sample = sample(completion, self.has_text, with_logprobs);
        if self.form == Form::Object {
            self.samples.push(Value::Object(sample));
            return Ok(ControlFlow::Continue(()));
        }
        let line = line(prompt, index % self.num_samples, sample);
        let bar = &self.bar;
        bar.suspend(|| crate::cli::print_on(&format!("{line}\n")))
    }

    /// Prints text as it is, or on a terminal without what would move its cursor about.
    fn print(&self, text: &str) -> Result<ControlFlow<()>, Error> {
        if self.is_terminal {
            crate::cli::print_on(&visible(text))
        } else {
            crate::cli::print_on(text)
        }
    }

    /// New tokens behind those that were printed.
    fn ids(&mut self, tokens: &[NewToken]) -> String {
        let mut text = String::new();
        for token in tokens {
            let comma = if self.n_printed > 0 { "," } else { "" };
            self.n_printed += 1;
            let _ = write!(text, "{comma}{}", token.id);
        }
        text
    }

    /// Prints what belongs at the end, and says whether all went well.
    pub(super) fn finish(mut self, ending: Result<(), Error>) -> Result<(), Error> {
        self.bar.finish_and_clear();
        if self.is_amid_line {
            crate::cli::print("\n")?;
        }
        let is_stopped = matches!(ending, Err(Error::Decode(DecodeError::Stopped)));
        if ending.is_ok() || is_stopped {
            self.sum_up()?;
        }
        ending?;
        match self.fault {
            Some(fault) => Err(DecodeError::from(fault).into()),
            None => Ok(()),
        }
    }

    fn sum_up(&mut self) -> Result<(), Error> {
        let rate = tokens_per_s(self.n_tokens, self.started.elapsed());
        match self.form {
            Form::Text => {}
            Form::Object => {
                let prompt = self.prompts.first();
                let prompt = prompt.map_or(&[][..], |prompt| &prompt.job.request.prompt);
                let samples = std::mem::take(&mut self.samples);
                crate::cli::print_json(&summary(prompt, samples, rate))?;
            }
            Form::Lines => tracing::info!(
                "{} texts of {} tokens in all, {rate:.1} tokens/s",
                self.n_done,
                self.n_tokens
            ),
        }
        Ok(())
    }
}

/// Text whose control characters are seen and do nothing, ends of lines and tabs aside: a model may say
/// any byte, and those of a terminal's commands too.
pub(super) fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        // Unicode has pictures of ASCII's.
        '\0'..='\x1F' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(c),
        '\x7F' => '\u{2421}',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The first sample's keys on top, and all samples in a list.
fn summary(prompt: &[u32], samples: Vec<Value>, rate: f64) -> Value {
    let mut object = samples.first().cloned().unwrap_or_else(|| json!({}));
    object["prompt_tokens"] = json!(prompt);
    object["total_tokens_per_s"] = json!(rate);
    object["samples"] = Value::Array(samples);
    object
}

/// A sample with what tells it from others.
fn line(prompt: &Prompt, sample_index: usize, sample: Map<String, Value>) -> Value {
    let mut object = Map::new();
    if let Some(id) = &prompt.id {
        object.insert("id".to_owned(), id.clone());
    }
    object.insert("sample".to_owned(), json!(sample_index));
    object.extend(sample);
    object.insert("prompt_tokens".to_owned(), json!(prompt.job.request.prompt));
    Value::Object(object)
}

fn sample(completion: &Completion, has_text: bool, with_logprobs: bool) -> Map<String, Value> {
    let Completion { prompt, text, .. } = completion;
    let ids: Vec<u32> = completion.tokens.iter().map(|token| token.id).collect();
    let sample = json!({
        "text": has_text.then(|| format!("{prompt}{text}")),
        "completion": has_text.then_some(text),
        "tokens": ids,
        "finish_reason": completion.reason.name(),
        "time_to_first_token_s": completion.first_token.map(|time: Duration| time.as_secs_f64()),
        "tokens_per_s": completion.tokens_per_s(),
    });
    let Value::Object(mut sample) = sample else {
        unreachable!("it was made as an object")
    };
    if with_logprobs {
        let all: Vec<Value> = completion.tokens.iter().map(logprobs).collect();
        sample.insert("logprobs".to_owned(), Value::Array(all));
    }
    if let Reason::Fault(fault) = completion.reason {
        let error = DecodeError::from(fault).to_string();
        sample.insert("error".to_owned(), json!(error));
    }
    sample
}

/// The log-probability of a token and those of the likeliest at its place; `null` stands for minus
/// infinity.
fn logprobs(token: &NewToken) -> Value {
    let one = |token: u32, logprob: f32| json!({ "token": token, "logprob": logprob });
    match &token.logprobs {
        None => json!({ "token": token.id, "logprob": null, "top": [] }),
        Some(TokenLogprobs { logprob, top }) => {
            let mut entry = one(token.id, *logprob);
            entry["top"] = top
                .iter()
                .map(|&(token, logprob)| one(token, logprob))
                .collect();
            entry
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Finish, Job};

    fn completion(reason: Reason) -> Completion {
        let token = |id, logprob, top: &[(u32, f32)]| NewToken {
            id,
            logprobs: Some(TokenLogprobs {
                logprob,
                top: top.to_vec(),
            }),
        };
        Completion {
            prompt: "a".to_owned(),
            text: "bc".to_owned(),
            tokens: vec![
                token(4, -0.5, &[(4, -0.5), (2, -1.25)]),
                token(7, f32::NEG_INFINITY, &[]),
            ],
            reason,
            first_token: Some(Duration::from_millis(250)),
            elapsed: Duration::from_secs(4),
        }
    }

    #[test]
    fn a_sample_says_what_was_asked() {
        let found = sample(&completion(Reason::Finish(Finish::End)), true, true);
        let wanted = json!({
            "text": "abc", "completion": "bc", "tokens": [4, 7], "finish_reason": "end",
            "time_to_first_token_s": 0.25, "tokens_per_s": 0.5,
            "logprobs": [
                {"token": 4, "logprob": -0.5, "top": [{"token": 4, "logprob": -0.5}, {"token": 2, "logprob": -1.25}]},
                {"token": 7, "logprob": null, "top": []},
            ],
        });
        assert_eq!(Value::Object(found), wanted);
        let plain = sample(&completion(Reason::Stop), false, false);
        assert_eq!(
            (&plain["text"], &plain["finish_reason"]),
            (&Value::Null, &json!("stop"))
        );
        assert!(!plain.contains_key("logprobs") && !plain.contains_key("error"));
    }

    #[test]
    fn a_terminal_is_given_no_commands() {
        assert_eq!(visible("é\n\t\x1B[2J\r\x7F\u{9B}K"), "é\n\t␛[2J␍␡\u{FFFD}K");
    }

    #[test]
    fn a_fault_of_one_text_leaves_the_others_and_fails_the_run() {
        let prompt = Prompt {
            place: None,
            id: None,
            job: Job::default(),
        };
        let prompts = [prompt];
        let mut printer = Printer::new(Form::Object, &prompts, 2, true);
        for reason in [Reason::Fault(Fault::NotANumber(2)), Reason::Stop] {
            let index = printer.n_done;
            let news = News::Done(index, completion(reason));
            assert!(printer.take(news).unwrap().is_continue());
        }
        let [wrong, right] = &printer.samples[..] else {
            panic!("two samples")
        };
        assert_eq!(
            (&wrong["finish_reason"], &right["finish_reason"]),
            (&json!("error"), &json!("stop"))
        );
        assert!(wrong["error"].as_str().unwrap().contains("NaN at token 2"));
        printer.samples.clear();
        printer.form = Form::Lines;
        let error = printer.finish(Ok(())).unwrap_err();
        assert_eq!(error.exit_code(), 1);
    }
}
