//! What waits for a slot: the only thing that the HTTP side and the engine share.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::choice::{Choice, Piece};
use crate::decode::{HeadAt, Request};

/// Where the pieces of a request's choices go, or what became of it; closed once nobody waits for them.
pub(super) type Pieces = UnboundedSender<Result<Piece, String>>;

/// A sequence to generate.
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) choice: Choice,
    pub(super) pieces: Pieces,
    pub(super) submitted: Instant,
}

/// A text whose attention somebody wants to see.
pub(super) struct Look {
    pub(super) tokens: Vec<u32>,
    pub(super) at: HeadAt,
    /// Takes the weights `[tokens, tokens]`, or why there are none.
    pub(super) answer: oneshot::Sender<Result<Vec<f32>, String>>,
}

/// Why a request is not taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many wait as may.
    Full,
    /// The server is ending.
    Closed,
}

/// What comes out of the queue.
#[derive(Default)]
pub(super) struct Taken {
    /// Sequences to begin with.
    pub(super) jobs: Vec<Job>,
    /// Sequences that nobody waits for any more.
    pub(super) given_up: usize,
    /// One of the looks that wait; the others have to wait for the sequences' next tokens.
    pub(super) look: Option<Look>,
}

/// Requests that wait, each with its sequences.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    slots: usize,
    max_waiting: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<VecDeque<Job>>,
    looks: VecDeque<Look>,
    active: usize,
    closed: bool,
}

impl Queue {
    /// A queue before `slots` slots, in which up to `max_waiting` requests wait.
    pub(super) fn new(slots: usize, max_waiting: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            slots,
            max_waiting,
        }
    }

    /// Takes all sequences of a request on, or none.
    pub(super) fn push(&self, jobs: VecDeque<Job>) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refusal::Closed);
        }
        // Those ahead that a free slot is waiting for do not wait themselves.
        let mut free = self.slots.saturating_sub(state.active);
        let mut waiting = 0;
        for request in &state.waiting {
            waiting += usize::from(request.len() > free);
            free = free.saturating_sub(request.len());
        }
        if free == 0 && waiting >= self.max_waiting {
            return Err(Refusal::Full);
        }
        state.waiting.push_back(jobs);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes a look on, which needs no slot.
    pub(super) fn look(&self, look: Look) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refusal::Closed);
        }
        state.looks.retain(|look| !look.answer.is_closed());
        // One is always let in: without a queue there are still the moments between steps.
        if state.looks.len() >= self.max_waiting.max(1) {
            return Err(Refusal::Full);
        }
        state.looks.push_back(look);
        self.changed.notify_one();
        Ok(())
    }

    /// Up to as many sequences as slots are free beside `active`: one of each request in turn, so that a
    /// request of many holds no other up; and a look. Waits for either where no sequence is active; gives
    /// none once the queue is closed and empty.
    pub(super) fn take(&self, active: usize) -> Option<Taken> {
        let mut state = self.lock();
        let mut taken = Taken::default();
        loop {
            // Those that nobody waits for any more keep nobody else out.
            state.waiting.retain(|request| {
                let is_left = request.front().is_some_and(|job| job.pieces.is_closed());
                taken.given_up += if is_left { request.len() } else { 0 };
                !is_left
            });
            while active + taken.jobs.len() < self.slots
                && let Some(mut request) = state.waiting.pop_front()
            {
                taken.jobs.extend(request.pop_front());
                if !request.is_empty() {
                    state.waiting.push_back(request);
                }
            }
            state.active = active + taken.jobs.len();
            state.looks.retain(|look| !look.answer.is_closed());
            taken.look = state.looks.pop_front();
            if state.active + taken.given_up > 0 || taken.look.is_some() {
                return Some(taken);
            }
            if state.closed {
                return None;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Takes nothing on any more; what was taken on is finished.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Gives up what waits, and takes nothing on any more.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        state.looks.clear();
        state.active = 0;
    }

    /// Sequences that are being generated, and those that wait.
    pub(super) fn lengths(&self) -> (usize, usize) {
        let state = self.lock();
        let waiting = state.waiting.iter().map(VecDeque::len).sum();
        (state.active, waiting)
    }

    /// Sequences that are generated at once.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-done where a holder could panic.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
