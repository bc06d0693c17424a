//! Barriers of workgroup memory, by looking at the shaders: an adapter that runs the lanes of a
//! workgroup one after the other gives the right result without some of them.

use std::collections::{BTreeMap, BTreeSet};

use gpu_tlm::gpu::Kernel;
use gpu_tlm::kernels;
use naga::{Block, Expression, Function, GlobalVariable, Handle, Module, Statement};

/// An access that may meet another lane's.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    variable: String,
    function: String,
    what: &'static str,
}

/// What happened to a workgroup variable since the last barrier.
#[derive(Clone, Default)]
struct Touched {
    written: bool,
    /// By atomic operations, which may meet each other and nothing else.
    added: bool,
    /// The visits of blocks that read it.
    read_in: BTreeSet<usize>,
}

/// By variable; what control flow brings together is added up.
type State = BTreeMap<Handle<GlobalVariable>, Touched>;

/// Goes through a module in the order of execution, each loop twice.
struct Walk<'a> {
    module: &'a Module,
    visits: usize,
    faults: BTreeSet<Fault>,
    /// States where the innermost loop is left, and where the function is.
    breaks: Vec<State>,
    returns: Vec<State>,
}

fn join(into: &mut State, other: State) {
    for (variable, touched) in other {
        let known = into.entry(variable).or_default();
        known.written |= touched.written;
        known.added |= touched.added;
        known.read_in.extend(touched.read_in);
    }
}

fn joined(states: Vec<State>) -> Option<State> {
    states.into_iter().reduce(|mut all, state| {
        join(&mut all, state);
        all
    })
}

impl Walk<'_> {
    /// The state after `function`; `None` where it never returns.
    fn function(&mut self, function: &Function, state: State) -> Option<State> {
        let outer = std::mem::take(&mut self.returns);
        let end = self.block(function, &function.body, state);
        let mut ends = std::mem::replace(&mut self.returns, outer);
        ends.extend(end);
        joined(ends)
    }

    /// The state behind `block`; `None` where control does not get there.
    fn block(&mut self, function: &Function, block: &Block, mut state: State) -> Option<State> {
        self.visits += 1;
        let visit = self.visits;
        for statement in block {
            match statement {
                Statement::Emit(range) => {
                    for expression in range.clone() {
                        let read = match &function.expressions[expression] {
                            Expression::Load { pointer } => Some(*pointer),
                            Expression::CooperativeLoad { data, .. } => Some(data.pointer),
                            _ => None,
                        };
                        if let Some(pointer) = read {
                            self.read(function, pointer, visit, &mut state);
                        }
                    }
                }
                Statement::Store { pointer, .. } => {
                    self.write(function, *pointer, visit, &mut state)
                }
                Statement::Atomic { pointer, .. } => {
                    self.add(function, *pointer, visit, &mut state);
                }
                Statement::CooperativeStore { data, .. } => {
                    self.write(function, data.pointer, visit, &mut state);
                }
                Statement::ControlBarrier(_) => state.clear(),
                Statement::WorkGroupUniformLoad { .. } => state.clear(),
                Statement::Break => {
                    self.breaks.push(state);
                    return None;
                }
                Statement::Return { .. } => {
                    self.returns.push(state);
                    return None;
                }
                Statement::Block(_)
                | Statement::If { .. }
                | Statement::Switch { .. }
                | Statement::Loop { .. }
                | Statement::Call { .. } => state = self.nested(function, statement, state)?,
                // None touches workgroup memory.
                Statement::ImageStore { .. }
                | Statement::SubgroupGather { .. }
                | Statement::SubgroupCollectiveOperation { .. } => {}
                other => panic!("this test does not know {other:?}"),
            }
        }
        Some(state)
    }

    fn nested(
        &mut self,
        function: &Function,
        statement: &Statement,
        state: State,
    ) -> Option<State> {
        match statement {
            Statement::Block(block) => self.block(function, block, state),
            Statement::If { accept, reject, .. } => {
                let ends = [accept, reject].map(|b| self.block(function, b, state.clone()));
                joined(ends.into_iter().flatten().collect())
            }
            Statement::Call { function, .. } => {
                let module = self.module;
                self.function(&module.functions[*function], state)
            }
            Statement::Loop {
                body,
                continuing,
                break_if,
            } => {
                let outer = std::mem::take(&mut self.breaks);
                let mut start = Some(state);
                for _ in 0..2 {
                    let end = start.and_then(|state| self.block(function, body, state));
                    start = end.and_then(|state| self.block(function, continuing, state));
                }
                if break_if.is_some() {
                    self.breaks.extend(start);
                }
                joined(std::mem::replace(&mut self.breaks, outer))
            }
            other => panic!("this test does not know {other:?}"),
        }
    }

    fn read(&mut self, f: &Function, pointer: Handle<Expression>, visit: usize, state: &mut State) {
        let Some(variable) = self.workgroup_variable(f, pointer) else {
            return;
        };
        let touched = state.entry(variable).or_default();
        touched.read_in.insert(visit);
        if touched.written || touched.added {
            self.fault(f, variable, "read after a write");
        }
    }

    fn add(&mut self, f: &Function, pointer: Handle<Expression>, visit: usize, state: &mut State) {
        let Some(variable) = self.workgroup_variable(f, pointer) else {
            return;
        };
        let touched = state.entry(variable).or_default();
        touched.added = true;
        if touched.written || touched.read_in.iter().any(|read| *read != visit) {
            self.fault(f, variable, "added to after a read or write");
        }
    }

    /// Reads of the same block are forgiven: `sums[lane] += sums[lane + half]`.
    fn write(
        &mut self,
        f: &Function,
        pointer: Handle<Expression>,
        visit: usize,
        state: &mut State,
    ) {
        let Some(variable) = self.workgroup_variable(f, pointer) else {
            return;
        };
        let touched = state.entry(variable).or_default();
        touched.written = true;
        if touched.added || touched.read_in.iter().any(|read| *read != visit) {
            self.fault(f, variable, "written after a read");
        }
    }

    fn fault(&mut self, f: &Function, variable: Handle<GlobalVariable>, what: &'static str) {
        let named = |name: &Option<String>| name.clone().unwrap_or_else(|| "main".to_owned());
        self.faults.insert(Fault {
            variable: named(&self.module.global_variables[variable].name),
            function: named(&f.name),
            what,
        });
    }

    fn workgroup_variable(
        &self,
        function: &Function,
        pointer: Handle<Expression>,
    ) -> Option<Handle<GlobalVariable>> {
        match function.expressions[pointer] {
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => {
                self.workgroup_variable(function, base)
            }
            Expression::GlobalVariable(variable) => {
                let space = self.module.global_variables[variable].space;
                (space == naga::AddressSpace::WorkGroup).then_some(variable)
            }
            _ => None,
        }
    }
}

/// What is wrong with a kernel of this joined source. A function of a shared file has to stand being
/// called twice in a row, since some kernel may.
fn faults(kernel: &Kernel, source: &str) -> BTreeSet<Fault> {
    let module = naga::front::wgsl::parse_str(source).unwrap();
    let is_shared = |function: &Function| {
        let head = format!("fn {}(", function.name.as_deref().unwrap());
        kernel
            .helpers()
            .iter()
            .any(|file| file.text.contains(&head))
    };
    let mut walk = Walk {
        module: &module,
        visits: 0,
        faults: BTreeSet::new(),
        breaks: Vec::new(),
        returns: Vec::new(),
    };
    walk.function(&module.entry_points[0].function, State::new());
    for (_, helper) in module.functions.iter().filter(|(_, f)| is_shared(f)) {
        let once = walk.function(helper, State::new());
        walk.function(helper, once.unwrap());
    }
    walk.faults
}

/// Kernel, variable and function where lanes are known to keep to parts that do not meet: rows of
/// their own, or one half while the other is read. This test cannot tell.
const APART: &[(&str, &str, &str)] = &[
    // A slice is written to one half while the other is read; the halves change at the barrier.
    ("matmul.tiled", "a_tile", "keep_a"),
    ("matmul.tiled", "b_tile", "keep_b"),
    ("matmul.tiled_quads", "a_tile", "keep_a"),
    ("matmul.tiled_quads", "b_tile", "keep_b"),
    ("matmul.tiled_small", "a_tile", "keep_a"),
    ("matmul.tiled_small", "b_tile", "keep_b"),
    ("matmul.tiled_f16", "a_tile", "keep_a"),
    ("matmul.tiled_f16", "b_tile", "keep_b"),
    ("matmul.tiled_quads_f16", "a_tile", "keep_a"),
    ("matmul.tiled_quads_f16", "b_tile", "keep_b"),
    // A lane turns the scores of its own row into probabilities.
    ("attention_forward", "row_tile", "soften_row"),
    // A lane scales sums of its own.
    ("attention_forward.cooperative", "sums_tile", "scale_pair"),
    (
        "attention_forward.cooperative_8x8",
        "sums_tile",
        "scale_pair",
    ),
    ("attention_forward.portable_f16", "row_tile", "soften_row"),
];

#[test]
fn workgroup_memory_has_a_barrier_between_a_write_and_a_read() {
    let mut wrong = Vec::new();
    for kernel in kernels::ALL {
        let label = kernel.label();
        for fault in faults(kernel, &kernel.joined_source()) {
            let Fault {
                variable,
                function,
                what,
            } = &fault;
            if !APART.contains(&(&label, variable, function)) {
                wrong.push(format!(
                    "{label}, {function}: {variable} is {what}, no barrier between"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_barrier_of_a_tree_and_of_bins_is_missed() {
    const BARRIER: &str = "workgroupBarrier();";
    for (kernel, least) in [
        (&kernels::softmax::FORWARD, 6),
        (&kernels::sample::FILTER, 8),
        (&kernels::sample::DRAW, 6),
        (&kernels::logprobs::TOKEN_LOGPROBS, 5),
    ] {
        let source = kernel.joined_source();
        let barriers: Vec<usize> = source.match_indices(BARRIER).map(|(at, _)| at).collect();
        let label = kernel.label();
        assert!(barriers.len() >= least, "{label}: {}", barriers.len());
        for at in barriers {
            let mut mutant = source.clone();
            mutant.replace_range(at..at + BARRIER.len(), "");
            let line = source[..at].lines().count();
            let found = faults(kernel, &mutant);
            assert!(!found.is_empty(), "{label}: line {line} can go unseen");
        }
    }
}
