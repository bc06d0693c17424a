//! The one way in which a kernel is chosen for an op that several can compute: what cannot run is left
//! out, and of the rest is taken what was asked for, or else what was measured, or else what suits the
//! adapter's class. Nothing here knows an op by name.

use std::marker::PhantomData;

use crate::gpu::{AdapterClass, Chosen, Kernel, Plan, Question, Reason, Target, Tensor};

/// A use of an op that several kernels can compute: the sizes, layouts and epilogues that decide which
/// of them can.
pub trait Family: Sized + 'static {
    /// The op, as in `--variant matmul.tiled` and in questions.
    const OP: &'static str;
    /// What computes it. Where nothing is forced or measured, the first is taken that can run and is
    /// meant for the adapter's class.
    const MEMBERS: &'static [Member<Self>];
    /// A member and what it is launched with.
    type Recipe: Copy + PartialEq;

    /// What a plan asks of the tuner.
    fn question(&self) -> Question;

    /// Which of the question's sizes are numbers of rows, that is follow from batch and window where the
    /// others follow from the model.
    fn row_sizes(&self) -> &'static [usize] {
        &[0]
    }

    /// The use that stands for all of a question's class; `None` where the question is another op's.
    fn asked(question: &Question) -> Option<Self>;

    /// How `member` is launched where nothing was measured.
    fn recipe(&self, member: &Member<Self>) -> Self::Recipe;

    /// The same recipe with what it takes from the adapter and not from the use, which is nothing for
    /// most.
    fn fitted(recipe: Self::Recipe, target: &Target) -> Self::Recipe {
        let _ = target;
        recipe
    }

    /// Name of the member that `recipe` launches.
    fn member_name(recipe: Self::Recipe) -> &'static str;

    /// How a recipe is written, for instance `matmul.tiled split 128`: the member's label where that is
    /// all.
    fn write(recipe: Self::Recipe) -> String {
        of_recipe::<Self>(recipe).label()
    }

    /// The recipe that is written so.
    fn parse(&self, text: &str) -> Option<Self::Recipe> {
        let member = Self::MEMBERS.iter().find(|m| m.label() == text)?;
        Some(self.recipe(member))
    }

    /// The recipes worth timing on adapters like `target`, besides the one that is taken untimed. Those
    /// that cannot run are left out later.
    fn worth_timing(&self, target: &Target) -> Vec<Self::Recipe> {
        let _ = target;
        Self::MEMBERS.iter().map(|m| self.recipe(m)).collect()
    }

    /// Whether two recipes launch the same for this use.
    fn launch_alike(&self, one: Self::Recipe, other: Self::Recipe) -> bool {
        one == other
    }

    /// Floating-point operations.
    fn flops(&self) -> usize;

    /// A smaller use of the same kind, with about half of the operations, that every member can compute
    /// which can compute this one; `None` at the smallest.
    fn halved(&self) -> Option<Self>;

    /// Pushes it by `recipe` on operands of its own, for timing, and gives those that are to be filled.
    fn sample(&self, plan: &mut Plan, recipe: Self::Recipe) -> Vec<Tensor>;
}

/// A kernel, or those that belong together, that computes an op.
pub struct Member<F: 'static> {
    /// `texture` of `matmul.texture`.
    pub name: &'static str,
    /// Every kernel of the op's names that it may launch.
    pub kernels: &'static [&'static Kernel],
    /// Classes of adapters that it suits.
    pub default_for: &'static [AdapterClass],
    /// What it needs of a use, beside what its kernels need of the device: all of it.
    pub needs: &'static [Need<F>],
}

/// Classes for which members with cooperative matrices are taken untimed: who times them checks them first,
/// since drivers and naga are young in these.
pub(super) const UNTIMED_NOWHERE: &[AdapterClass] = &[];

/// Something that a kernel needs of each use: an alignment, a form, an epilogue that it can store.
pub struct Need<F> {
    /// The need as a sentence, for instance `it takes one row in the form nt`.
    pub words: &'static str,
    /// Whether a use meets it.
    pub met: fn(&F) -> bool,
}

impl<F: Family> Member<F> {
    /// `matmul.texture`.
    pub fn label(&self) -> String {
        format!("{}.{}", F::OP, self.name)
    }

    /// Why it cannot compute `used` on adapters like `target`, if it cannot.
    pub fn obstacle(&self, target: &Target, used: &F) -> Option<String> {
        self.unmet(used)
            .map(str::to_owned)
            .or_else(|| self.kernels.iter().find_map(|k| target.obstacle(k)))
    }

    fn unmet(&self, used: &F) -> Option<&'static str> {
        let unmet = self.needs.iter().find(|need| !(need.met)(used));
        unmet.map(|need| need.words)
    }
}

/// The member that `recipe` launches.
fn of_recipe<F: Family>(recipe: F::Recipe) -> &'static Member<F> {
    let name = F::member_name(recipe);
    let member = F::MEMBERS.iter().find(|m| m.name == name);
    member.expect("a recipe is of a member")
}

/// What the recipe's member needs of a use and `used` does not meet, if anything, whatever the device.
pub fn unmet<F: Family>(used: &F, recipe: F::Recipe) -> Option<&'static str> {
    of_recipe::<F>(recipe).unmet(used)
}

/// Why the recipe's member cannot compute `used` on adapters like `target`, if it cannot.
pub fn obstacle<F: Family>(target: &Target, used: &F, recipe: F::Recipe) -> Option<String> {
    of_recipe::<F>(recipe).obstacle(target, used)
}

/// Chooses how `plan` computes `used`, and notes the choice there.
///
/// # Panics
/// If no member can: an op that lacks one for every use is a bug of ours.
pub fn choose<F: Family>(plan: &mut Plan, used: &F) -> F::Recipe {
    let question = used.question();
    let target = plan.target();
    let mut left = Vec::new();
    let mut left_out = Vec::new();
    for member in F::MEMBERS {
        match member.obstacle(target, used) {
            None => left.push(member),
            Some(obstacle) => left_out.push((member, obstacle)),
        }
    }
    let open = recipes(target, used, &left).len() > 1;
    let answer = open.then(|| plan.ask(question.clone())).flatten();
    let target = plan.target();
    let is_left = |name: &str| left.iter().find(|m| m.name == name);
    let forced = target.choices.forced_variant(F::OP);
    if let Some((member, obstacle)) =
        forced.and_then(|name| left_out.iter().find(|(m, _)| m.name == name))
    {
        let (kind, name) = (question.kind, member.label());
        let message = format!("{kind} goes without {name}: {obstacle}");
        target.choices.warn_once(&message);
    }
    let measured = answer.and_then(|text| used.parse(&text));
    let measured = measured.filter(|&recipe| is_left(F::member_name(recipe)).is_some());
    let (recipe, reason) = match (forced.and_then(is_left), measured) {
        (Some(member), _) => (untimed(target, used, member), Reason::Forced),
        (None, Some(recipe)) => (recipe, Reason::Measured),
        (None, None) => (
            untimed(target, used, suited(target, &left)),
            Reason::Default,
        ),
    };
    plan.note_chosen(Chosen {
        class: question.class(),
        recipe: F::write(recipe),
        reason,
        left_out: left_out.into_iter().map(|(m, o)| (m.label(), o)).collect(),
    });
    recipe
}

/// How `member` is launched for `used` where nothing was measured.
fn untimed<F: Family>(target: &Target, used: &F, member: &Member<F>) -> F::Recipe {
    F::fitted(used.recipe(member), target)
}

/// What is taken untimed of the members that can run.
fn suited<F: Family>(target: &Target, left: &[&'static Member<F>]) -> &'static Member<F> {
    let meant = left.iter().find(|m| m.default_for.contains(&target.class));
    meant
        .or(left.first())
        .unwrap_or_else(|| panic!("no kernel of {} computes this", F::OP))
}

/// Candidates for one class of shapes at most, so that timing them stays a matter of seconds.
pub const MOST_CANDIDATES: usize = 8;

/// The recipes for `used` on adapters like `target`, the one that is taken untimed first; no two
/// launch the same.
pub fn candidates<F: Family>(target: &Target, used: &F) -> Vec<F::Recipe> {
    let members = F::MEMBERS.iter();
    let left: Vec<_> = members
        .filter(|m| m.obstacle(target, used).is_none())
        .collect();
    recipes(target, used, &left)
}

/// [`candidates`] of the members that can run.
fn recipes<F: Family>(target: &Target, used: &F, left: &[&'static Member<F>]) -> Vec<F::Recipe> {
    let mut kept = vec![untimed(target, used, suited(target, left))];
    for recipe in used.worth_timing(target) {
        let can_run = left.iter().any(|m| m.name == F::member_name(recipe));
        if can_run && !kept.iter().any(|&known| used.launch_alike(known, recipe)) {
            kept.push(recipe);
        }
    }
    kept.truncate(MOST_CANDIDATES);
    kept
}

/// A [`Family`] for who knows its questions and not its type.
pub trait AnyFamily: Sync {
    /// The op's name.
    fn op(&self) -> &'static str;

    /// Labels of the members, `matmul.tiled` for instance.
    fn labels(&self) -> Vec<String>;

    /// Whether `kernel` is one of the op's: of a member, or of a name that a member's kernel has.
    fn has(&self, kernel: &Kernel) -> bool {
        let labels = self.labels();
        let mut kernels = labels.iter().flat_map(|label| self.kernels(label));
        kernels.any(|known| known.name == kernel.name)
    }

    /// Every kernel that the member of this label may launch; none where there is no such member.
    fn kernels(&self, label: &str) -> &'static [&'static Kernel];

    /// Why the member of this label can run nothing on adapters like `target`, if so.
    fn obstacle(&self, target: &Target, label: &str) -> Option<String>;

    /// Operations of what `question` asks about; `None` where the question is another op's, as below.
    fn flops(&self, question: &Question) -> Option<usize>;

    /// Which of its sizes are numbers of rows, as [`Family::row_sizes`] tells.
    fn row_sizes(&self, question: &Question) -> Option<&'static [usize]>;

    /// A shorter question of the same kind that takes at most `flops`, to be timed in its stead.
    fn within(&self, question: &Question, flops: usize) -> Option<Question>;

    /// The recipes that may answer `question` and are told apart by timing `sample`, which is the
    /// question or one that [`AnyFamily::within`] made of it: the one that is taken untimed first.
    ///
    /// # Panics
    /// If the question is another op's: a bug of the caller, like all panics here.
    fn candidates(&self, target: &Target, question: &Question, sample: &Question) -> Vec<String>;

    /// Pushes what `question` asks about by a recipe of [`AnyFamily::candidates`], on operands of its
    /// own, and gives those that are to be filled.
    ///
    /// # Panics
    /// If the name is no such recipe.
    fn sample(&self, plan: &mut Plan, question: &Question, recipe: &str) -> Vec<Tensor>;
}

/// The [`AnyFamily`] of a family.
pub struct Of<F>(PhantomData<fn() -> F>);

impl<F> Of<F> {
    /// It.
    pub const NEW: Self = Self(PhantomData);
}

impl<F: Family> AnyFamily for Of<F> {
    fn op(&self) -> &'static str {
        F::OP
    }

    fn labels(&self) -> Vec<String> {
        F::MEMBERS.iter().map(Member::label).collect()
    }

    fn kernels(&self, label: &str) -> &'static [&'static Kernel] {
        let member = F::MEMBERS.iter().find(|m| m.label() == label);
        member.map_or(&[], |member| member.kernels)
    }

    fn obstacle(&self, target: &Target, label: &str) -> Option<String> {
        self.kernels(label).iter().find_map(|k| target.obstacle(k))
    }

    fn flops(&self, question: &Question) -> Option<usize> {
        Some(F::asked(question)?.flops())
    }

    fn row_sizes(&self, question: &Question) -> Option<&'static [usize]> {
        Some(F::asked(question)?.row_sizes())
    }

    fn within(&self, question: &Question, flops: usize) -> Option<Question> {
        let mut used = F::asked(question)?;
        while used.flops() > flops
            && let Some(half) = used.halved()
        {
            used = half;
        }
        Some(used.question())
    }

    fn candidates(&self, target: &Target, question: &Question, sample: &Question) -> Vec<String> {
        let asked = |question| F::asked(question).expect("a question of this op");
        let (used, sample) = (asked(question), asked(sample));
        let recipes = candidates(target, &sample).into_iter();
        // A shorter use may be one for more members.
        let can_run = |&recipe: &F::Recipe| obstacle(target, &used, recipe).is_none();
        recipes.filter(can_run).map(F::write).collect()
    }

    fn sample(&self, plan: &mut Plan, question: &Question, recipe: &str) -> Vec<Tensor> {
        let used = F::asked(question).expect("a question of this op");
        let recipe = used.parse(recipe);
        used.sample(plan, recipe.expect("a recipe of this op"))
    }
}
