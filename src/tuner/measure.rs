//! Times the candidates of each class of products, all in turn, so that a machine that changes its
//! speed meanwhile does so for all of them.

use std::time::Instant;

use half::f16;

use super::effort::Effort;
use super::soundness::Soundness;
use super::{Candidate, Chip, Findings, Tuned};
use crate::gpu::{Device, Executable, GpuError, Kernel, Memory, Plan, Question, SectionId};
use crate::kernels::FAMILIES;
use crate::kernels::family::AnyFamily;

/// Seconds after which nothing further is timed, the first runs of defaults apart, which a plan needs
/// anyway. A shader that is being compiled then still takes its time: two to three seconds on
/// llvmpipe.
const BUDGET_S: f64 = 6.0;
/// Rounds of timings, of which the shortest is taken: whatever else the machine does adds to a time
/// and never takes from it.
const ROUNDS: usize = 7;
/// A candidate whose first timing is so many times the best one's is out of the race.
const HOPELESS: f64 = 2.0;
/// A candidate has to take less than this share of the default's time to take its place: times of
/// equal kernels differ by some hundredths.
const CLEARLY_FASTER: f64 = 0.95;

/// Times the candidates for each of `questions`, in order, for six seconds; what then is left
/// takes its class's default. `chip` is what is known of the device.
///
/// # Errors
/// When the device is lost; a candidate that fails otherwise is left out.
pub fn measure(
    device: &Device,
    chip: Option<Chip>,
    questions: &[Question],
) -> Result<Findings, GpuError> {
    let effort = Effort::new(device.class(), chip, device.has_clock());
    measure_within(device, effort, questions, BUDGET_S)
}

fn measure_within(
    device: &Device,
    effort: Effort,
    questions: &[Question],
    budget_s: f64,
) -> Result<Findings, GpuError> {
    let mut racecourse = Racecourse {
        device,
        effort,
        clock: Clock {
            started: Instant::now(),
            needed_s: 0.0,
            budget_s,
        },
        sound: Soundness::default(),
        numbers: Numbers::default(),
    };
    let mut findings = Findings::new();
    for question in questions {
        let short = |family: &dyn AnyFamily| family.within(question, effort.most_flops);
        let found = FAMILIES.into_iter().find_map(|f| Some((f, short(f)?)));
        let Some((family, short)) = found else {
            continue;
        };
        let recipes = family.candidates(&device.target(), question, &short);
        let candidates = racecourse.race(family, &short, &recipes)?;
        let choice = winner(&candidates).unwrap_or_else(|| recipes[0].clone());
        findings.insert(
            question.class(),
            Tuned {
                choice,
                candidates,
                as_for: None,
            },
        );
    }
    Ok(findings)
}

/// The candidate that is taken: the fastest where it is clearly faster than the default, which is
/// the first.
fn winner(candidates: &[Candidate]) -> Option<String> {
    let default = candidates.first()?;
    let fastest = candidates.iter().min_by(|a, b| a.ms.total_cmp(&b.ms))?;
    let clear = fastest.ms < CLEARLY_FASTER * default.ms;
    Some(if clear { fastest } else { default }.name.clone())
}

/// How long timing has taken.
struct Clock {
    started: Instant,
    /// Seconds that the plan would have taken as well.
    needed_s: f64,
    budget_s: f64,
}

impl Clock {
    fn is_over(&self) -> bool {
        self.started.elapsed().as_secs_f64() - self.needed_s > self.budget_s
    }
}

/// A candidate that has run once.
struct Runner {
    name: String,
    executable: Executable,
    section: SectionId,
    /// How often a timed run repeats the op.
    replays: u32,
    /// Time of the op in the first run that was long enough.
    probe_ms: f64,
    times_ms: Vec<f64>,
}

impl Runner {
    fn time(&mut self, device: &Device) -> Result<f64, GpuError> {
        let elapsed = self
            .executable
            .time(device, self.section, None, self.replays)?;
        let ms = elapsed.device_ms.unwrap_or(elapsed.wall_ms);
        self.times_ms.push(ms);
        Ok(ms)
    }

    /// Repeats the op more often until a run takes long enough to be told from another candidate's.
    fn probe(&mut self, device: &Device, effort: &Effort) -> Result<(), GpuError> {
        loop {
            self.probe_ms = self.time(device)?;
            // Twice as long, since what was loaded before is loaded faster.
            let replays = effort.replays(self.probe_ms, 2.0 * effort.probe_ms);
            let elapsed_ms = self.probe_ms * f64::from(self.replays);
            if elapsed_ms >= effort.probe_ms || replays <= self.replays {
                return Ok(());
            }
            self.replays = replays;
        }
    }
}

/// What races have in common.
struct Racecourse<'a> {
    device: &'a Device,
    effort: Effort,
    clock: Clock,
    sound: Soundness,
    numbers: Numbers,
}

impl Racecourse<'_> {
    fn race(
        &mut self,
        family: &dyn AnyFamily,
        question: &Question,
        recipes: &[String],
    ) -> Result<Vec<Candidate>, GpuError> {
        let device = self.device;
        let mut runners: Vec<Runner> = Vec::new();
        for (index, recipe) in recipes.iter().enumerate() {
            if self.clock.is_over() {
                return Ok(Vec::new());
            }
            let began = Instant::now();
            let is_sound = self.sound.of(device, family, recipe)?;
            self.clock.needed_s += began.elapsed().as_secs_f64();
            if !is_sound {
                continue;
            }
            let began = Instant::now();
            match self.prepare(family, question, recipe) {
                Ok(runner) => runners.push(runner),
                Err(error @ GpuError::Device(_)) => return Err(error),
                Err(error) => tracing::debug!("no time of {recipe}: {error}"),
            }
            if index == 0 {
                self.clock.needed_s += began.elapsed().as_secs_f64();
            }
        }
        let best = runners.iter().map(|r| r.probe_ms);
        let best = best.fold(f64::INFINITY, f64::min);
        for runner in &mut runners {
            if runner.probe_ms > HOPELESS * best {
                // Once more, for the machine may have been busy.
                runner.probe_ms = runner.time(device)?.min(runner.probe_ms);
            }
            runner.replays = self.effort.replays(runner.probe_ms, self.effort.run_ms);
            runner.times_ms.clear();
        }
        for _ in 0..ROUNDS {
            for runner in &mut runners {
                if runner.probe_ms <= HOPELESS * best && !self.clock.is_over() {
                    runner.time(device)?;
                }
            }
        }
        Ok(runners.into_iter().map(finish).collect())
    }

    /// Compiles a candidate, lets it run once, which is when some drivers compile, and times it once.
    fn prepare(
        &mut self,
        family: &dyn AnyFamily,
        question: &Question,
        recipe: &str,
    ) -> Result<Runner, GpuError> {
        let device = self.device;
        let mut plan = Plan::new(device.target());
        plan.isolate_scratch();
        let section = plan.section();
        plan.set_scope("tuner");
        let operands = family.sample(&mut plan, question, recipe);
        assert_ran(family, &plan, recipe);
        let executable = Executable::compile(&plan, device, &Memory::default().allocate(device)?)?;
        for operand in operands {
            if operand.is_halves() {
                let halves = self.numbers.halves(operand.span());
                executable.write_scratch(device, operand, halves);
            } else {
                let words = self.numbers.words(operand.len());
                executable.write_scratch(device, operand, words);
            }
        }
        let mut runner = Runner {
            name: recipe.to_owned(),
            executable,
            section,
            replays: 1,
            probe_ms: 0.0,
            times_ms: Vec::new(),
        };
        runner.time(device)?;
        runner.probe(device, &self.effort)?;
        Ok(runner)
    }
}

fn finish(runner: Runner) -> Candidate {
    let shortest = runner.times_ms.into_iter().min_by(f64::total_cmp);
    Candidate {
        ms: shortest.unwrap_or(runner.probe_ms),
        name: runner.name,
    }
}

/// Makes sure that a time is that of the kernel whose name it gets.
///
/// # Panics
/// If another kernel of the op was dispatched, or none: a bug of the family.
fn assert_ran(family: &dyn AnyFamily, plan: &Plan, recipe: &str) {
    let label = recipe.split(' ').next().unwrap_or_default();
    let own = family.kernels(label);
    let dispatches = plan.all_dispatches().iter().map(|d| d.kernel);
    let ran: Vec<&Kernel> = dispatches.filter(|k| family.has(k)).collect();
    assert!(!ran.is_empty(), "nothing in a sample of {recipe}");
    for kernel in ran {
        let belongs = own.iter().any(|own| std::ptr::eq(*own, kernel));
        assert!(belongs, "{} in a sample of {recipe}", kernel.label());
    }
}

/// Numbers of both signs that look random: a GPU may take less power, and a higher clock, for zeros. Made
/// once for all operands, of which the largest take a while.
#[derive(Default)]
struct Numbers {
    words: Vec<f32>,
    halves: Vec<[u16; 2]>,
}

impl Numbers {
    fn words(&mut self, len: usize) -> &[f32] {
        self.words.extend((self.words.len()..len).map(number));
        &self.words[..len]
    }

    /// Words of two numbers each.
    fn halves(&mut self, words: usize) -> &[[u16; 2]] {
        let half = |i| f16::from_f32(number(i)).to_bits();
        let missing = self.halves.len()..words;
        self.halves
            .extend(missing.map(|word| [half(2 * word), half(2 * word + 1)]));
        &self.halves[..words]
    }
}

fn number(i: usize) -> f32 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    f32::from(u16::try_from(mixed).unwrap_or_default()) / 32_768.0 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{AdapterClass, Target, Tensor};

    const SOFTWARE: AdapterClass = AdapterClass::Software;

    fn effort() -> Effort {
        Effort::new(SOFTWARE, None, true)
    }

    fn racecourse(device: &Device, effort: Effort) -> Racecourse<'_> {
        Racecourse {
            device,
            effort,
            clock: Clock {
                started: Instant::now(),
                needed_s: 0.0,
                budget_s: f64::INFINITY,
            },
            sound: Soundness::default(),
            numbers: Numbers::default(),
        }
    }

    fn candidates(times_ms: &[f64]) -> Vec<Candidate> {
        let named = |(i, &ms): (usize, &f64)| Candidate {
            name: i.to_string(),
            ms,
        };
        times_ms.iter().enumerate().map(named).collect()
    }

    #[test]
    fn the_default_yields_only_to_what_is_clearly_faster() {
        let of = |times: &[f64]| winner(&candidates(times));
        assert_eq!(of(&[1.0, 0.96, 0.97]).as_deref(), Some("0"));
        assert_eq!(of(&[1.0, 0.96, 0.9, 3.0]).as_deref(), Some("2"));
        assert_eq!(of(&[1.0, 2.0]).as_deref(), Some("0"));
        assert_eq!(of(&[]), None);
    }

    fn questions() -> Vec<Question> {
        let of = |(kind, sizes): (&'static str, &[usize])| Question {
            kind,
            sizes: sizes.to_vec(),
        };
        let asked: [(_, &[usize]); 7] = [
            ("matmul nn", &[1, 40, 300]),
            ("matmul nt", &[1, 40, 300]),
            ("matmul tn", &[1, 40, 300]),
            ("attention forward", &[1, 9, 9, 2, 1, 8]),
            ("attention backward", &[1, 9, 9, 2, 1, 8]),
            ("rmsnorm forward", &[3, 32]),
            ("rmsnorm backward", &[3, 32]),
        ];
        asked.map(of).into()
    }

    #[test]
    fn every_class_gets_a_choice_among_its_candidates() {
        let device = Device::open(&crate::gpu::DeviceOptions::default()).unwrap();
        let questions = questions();
        let findings = measure_within(&device, effort(), &questions, f64::INFINITY).unwrap();
        assert_eq!(findings.len(), questions.len());
        for (
            class,
            Tuned {
                choice, candidates, ..
            },
        ) in findings
        {
            // An adapter without subgroups of the right size has one kernel for rows.
            let least = if class.starts_with("rmsnorm") { 1 } else { 2 };
            assert!(candidates.len() >= least, "{class}: {candidates:?}");
            let named = candidates.iter().any(|c| c.name == choice);
            assert!(named, "{class}: {choice} of {candidates:?}");
            assert!(candidates.iter().all(|c| c.ms > 0.0), "{candidates:?}");
        }
    }

    #[test]
    fn a_class_without_time_left_takes_its_default() {
        let device = Device::open(&crate::gpu::DeviceOptions::default()).unwrap();
        let question = &questions()[1];
        let findings =
            measure_within(&device, effort(), std::slice::from_ref(question), 0.0).unwrap();
        let default = &FAMILIES[0].candidates(&device.target(), question, question)[0];
        let tuned = &findings[&question.class()];
        assert_eq!((&tuned.choice, tuned.candidates.len()), (default, 0));
    }

    /// A normalisation of three rows takes microseconds anywhere.
    #[test]
    fn a_short_op_is_repeated_until_a_run_is_long() {
        let device = Device::open(&crate::gpu::DeviceOptions::default()).unwrap();
        let question = &questions()[5];
        let family = FAMILIES.into_iter().find(|f| f.op() == "rmsnorm").unwrap();
        let effort = Effort {
            probe_ms: 1.0,
            ..Effort::new(AdapterClass::Gpu, None, true)
        };
        let runner = racecourse(&device, effort).prepare(family, question, "rmsnorm.portable");
        let runner = runner.unwrap();
        let run_ms = runner.probe_ms * f64::from(runner.replays);
        assert!(run_ms >= 1.0, "{run_ms} ms, {} times", runner.replays);
    }

    #[test]
    fn numbers_are_the_same_for_operands_of_any_length() {
        let mut numbers = Numbers::default();
        let long = numbers.words(100).to_vec();
        assert_eq!(numbers.words(7), &long[..7]);
        assert_eq!(Numbers::default().words(7), &long[..7]);
        let rounded: Vec<f32> = long.iter().map(|x| f16::from_f32(*x).to_f32()).collect();
        let halves = numbers.halves(50).concat();
        let halves: Vec<f32> = halves
            .into_iter()
            .map(|h| f16::from_bits(h).to_f32())
            .collect();
        assert_eq!(halves, rounded);
        assert!(long.iter().any(|x| *x < -0.5) && long.iter().any(|x| *x > 0.5));
    }

    /// A family whose sample launches another kernel than the one that it names.
    struct Mislabelled;

    impl AnyFamily for Mislabelled {
        fn op(&self) -> &'static str {
            FAMILIES[0].op()
        }
        fn labels(&self) -> Vec<String> {
            FAMILIES[0].labels()
        }
        fn kernels(&self, label: &str) -> &'static [&'static Kernel] {
            FAMILIES[0].kernels(label)
        }
        fn obstacle(&self, target: &Target, label: &str) -> Option<String> {
            FAMILIES[0].obstacle(target, label)
        }
        fn flops(&self, question: &Question) -> Option<usize> {
            FAMILIES[0].flops(question)
        }
        fn row_sizes(&self, question: &Question) -> Option<&'static [usize]> {
            FAMILIES[0].row_sizes(question)
        }
        fn within(&self, question: &Question, flops: usize) -> Option<Question> {
            FAMILIES[0].within(question, flops)
        }
        fn candidates(&self, target: &Target, q: &Question, sample: &Question) -> Vec<String> {
            FAMILIES[0].candidates(target, q, sample)
        }
        fn sample(&self, plan: &mut Plan, question: &Question, _: &str) -> Vec<Tensor> {
            FAMILIES[0].sample(plan, question, "matmul.tiled split 1")
        }
    }

    #[test]
    #[should_panic(expected = "matmul.tiled in a sample of matmul.tiled_small split 1")]
    fn a_sample_of_another_kernel_is_found() {
        let device = Device::open(&crate::gpu::DeviceOptions::default()).unwrap();
        let question = &questions()[1];
        let recipe = "matmul.tiled_small split 1";
        let _ = racecourse(&device, effort()).prepare(&Mislabelled, question, recipe);
    }
}
