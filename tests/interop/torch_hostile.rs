//! Pickles that ask for what they must not have, or that make no sense.

use gpu_tlm::interop::torch::TorchFile;
use proptest::prelude::*;

use super::torch_damaged::{read_all, refused};
use super::torch_pickles::{Scratch, archive, dict, file_of, int, list, tensor, text, tuple};

#[test]
fn state_dicts_of_other_things_are_refused_by_name() {
    let w = || tensor("0", 6, 0, &[6], &[1]);
    let model = |pairs: &[(Vec<u8>, Vec<u8>)]| file_of(dict(&[(text("model"), dict(pairs))]));
    refused(
        &model(&[(text("w"), w()), (text("x"), int(5))]),
        "tensor 'x' is no tensor but a int",
    );
    refused(
        &model(&[(text("w"), w()), (text("module.w"), w())]),
        "tensor 'w' is there twice",
    );
    refused(
        &model(&[(int(3), w())]),
        "'a key that is no text' is no tensor",
    );
    refused(
        &file_of(list(&[w()])),
        "holds a list where a dict is needed",
    );
    refused(&file_of(w()), "holds a tensor where a dict is needed");
}

#[test]
fn pickles_that_are_no_pickle_of_torch_are_refused() {
    let w = || (text("w"), tensor("0", 6, 0, &[6], &[1]));
    let with = |value: &[u8]| file_of(dict(&[w(), (text("args"), value.to_vec())]));
    for (value, want) in [
        (
            &b"cos\nsystem\n(X\x04\0\0\0trueo"[..],
            "'os.system', which is no part of a tensor",
        ),
        (b"cos\nsystem\nX\x04\0\0\0true\x85R", "'os.system'"),
        (b"\x8c\x02os\x8c\x06system\x93)R", "'os.system'"),
        (
            b"ctorch.storage\n_load_from_bytes\n)R",
            "'torch.storage._load_from_bytes'",
        ),
        (b"cargparse\nNamespace\n)\x81}b", "'argparse.Namespace'"),
        (b"K\x01)R", "calls a int with a tuple"),
        (
            b"ctorch\nFloatStorage\n)R",
            "calls a class of storages with ()",
        ),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n)R",
            "calls torch._utils._rebuild_tensor_v2 with ()",
        ),
        (
            b"ccollections\nOrderedDict\nK\x01\x85R",
            "calls collections.OrderedDict with (int)",
        ),
        (b"K\x01Q", "refers to what is no storage"),
        (b"N}b", "gives a state to a None"),
        (b"K\x01K\x02a", "adds an element to a int"),
        (b"K\x01K\x02K\x03s", "adds a key and a value to a int"),
        (b"}(K\x01u", "a key without a value"),
        (b"h\x07", "recalls 7, which it never kept"),
        (b"(0000000000", "takes more from its stack than there is"),
        (b"ttttt", "no mark to go back to"),
        (b"I5\n", "the opcode 0x49 at byte"),
        (
            b"X\xff\xff\xff\xffabc",
            "ends within an opcode that needs 4294967295 bytes",
        ),
        (
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc",
            "ends within an opcode that needs 18446744073709551615",
        ),
        (b"X\x01\0\0\0\xff", "a text that is no UTF-8"),
    ] {
        let want = want
            .strip_suffix('\0')
            .map_or(want, |_| "ends within a name");
        refused(&with(value), want);
    }
    refused(
        &archive(&[("data.pkl", b"\x80\x02.")]),
        "takes more from its stack than there is",
    );
    refused(&archive(&[("data.pkl", b"")]), "ends within an opcode");
    refused(
        &archive(&[("data.pkl", b"\x80\x02cos")]),
        "ends within a name",
    );
}

#[test]
fn metadata_without_end_is_refused() {
    let w = || (text("w"), tensor("0", 6, 0, &[6], &[1]));
    let with = |value: Vec<u8>| file_of(dict(&[w(), (text("args"), value)]));
    // A million lists, each within the next.
    let deep = [vec![b']'; 1_000_000], vec![b'a'; 999_999]].concat();
    refused(
        &with(deep),
        "'args' contains itself, or nests deeper than 64 levels",
    );
    // Thirty lists, each with the one before it ten times.
    let mut shared = b"]q\x000".to_vec();
    for level in 1..30_u8 {
        shared.extend(b"](");
        shared.extend([b'h', level - 1].repeat(10));
        shared.extend([b'e', b'q', level, b'0']);
    }
    shared.extend([b'h', 29]);
    refused(
        &with(shared),
        "metadata of more than 4194304 values and bytes, which 'args' makes it have",
    );
    // A dict in itself, as a value and as a key.
    refused(
        &with(b"}q\x00K\x01h\x00s".to_vec()),
        "'args' contains itself",
    );
    refused(
        &with(b"}q\x00h\x00K\x01s".to_vec()),
        "'args' contains itself",
    );
    // A text that calls copy over and over.
    let big = [
        b"ctorch\ndevice\nq\x00",
        &*text(&"a".repeat(1 << 20)),
        b"\x85q\x01",
    ]
    .concat();
    refused(
        &with([big, b"h\x00h\x01R".repeat(64)].concat()),
        "calls get more than",
    );
}

/// An optimizer of one group, by its parameters and its states.
fn optimizer(params: &[i64], states: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let params: Vec<Vec<u8>> = params.iter().map(|index| int(*index)).collect();
    let states: Vec<_> = states
        .iter()
        .map(|(index, state)| (int(*index), state.clone()))
        .collect();
    let group = dict(&[(text("lr"), int(1)), (text("params"), list(&params))]);
    let optimizer = dict(&[
        (text("state"), dict(&states)),
        (text("param_groups"), list(&[group])),
    ]);
    let model = dict(&[
        (text("w"), tensor("0", 6, 0, &[6], &[1])),
        (text("v"), tensor("0", 6, 0, &[2], &[1])),
    ]);
    file_of(dict(&[
        (text("model"), model),
        (text("optimizer"), optimizer),
    ]))
}

#[test]
fn optimizers_that_are_damaged_are_refused() {
    let moment = |len: i64| tensor("0", 6, 0, &[len], &[1]);
    let state = |pairs: &[(&str, Vec<u8>)]| {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| (text(key), value.clone()))
            .collect();
        dict(&pairs)
    };
    let whole = || {
        state(&[
            ("step", int(3)),
            ("exp_avg", moment(6)),
            ("exp_avg_sq", moment(6)),
        ])
    };
    refused(&optimizer(&[0, 0], &[]), "has its parameter 0 twice");
    refused(
        &optimizer(&[-1], &[]),
        "params in its group 0 that are no indices",
    );
    let half = state(&[("step", int(3)), ("exp_avg", moment(6))]);
    refused(
        &optimizer(&[0], &[(0, half)]),
        "'optimizer.state.0' lacks one of",
    );
    let unlike = state(&[
        ("step", int(3)),
        ("exp_avg", moment(6)),
        ("exp_avg_sq", moment(5)),
    ]);
    refused(
        &optimizer(&[0], &[(0, unlike)]),
        "tensor 'optimizer.state.0.exp_avg_sq' has the shape [5], unlike the first moment with [6]",
    );
    let outside = state(&[
        ("step", int(3)),
        ("exp_avg", moment(7)),
        ("exp_avg_sq", moment(6)),
    ]);
    refused(
        &optimizer(&[0], &[(0, outside)]),
        "tensor 'optimizer.state.0.exp_avg' with the shape [7]",
    );
    for step in [
        int(-3),
        text("3"),
        moment(6),
        b"G\x7f\xf8\0\0\0\0\0\0".to_vec(),
    ] {
        let state = state(&[
            ("step", step),
            ("exp_avg", moment(6)),
            ("exp_avg_sq", moment(6)),
        ]);
        refused(
            &optimizer(&[0], &[(0, state)]),
            "'optimizer.state.0.step' is no number of steps",
        );
    }
    let many: Vec<_> = (0..65).map(|at| (text(&at.to_string()), int(at))).collect();
    refused(
        &optimizer(&[0], &[(0, dict(&many))]),
        "'optimizer.state.0' with 65 entries",
    );
    // What is no Adam's is passed over and named.
    let momentum = state(&[("momentum_buffer", moment(6))]);
    let scratch = Scratch::new();
    let file = TorchFile::open(scratch.write(&optimizer(&[0, 1], &[(0, momentum), (1, whole())])))
        .unwrap();
    let parameters = &file.optimizer().unwrap().parameters;
    assert!(parameters[0].moments.is_none());
    assert_eq!(parameters[0].unread, ["momentum_buffer"]);
    assert!(parameters[1].moments.is_some());
    let error = file.match_optimizer(|_| true).unwrap_err().to_string();
    assert!(
        error.contains("'v' has the shape [2], but the optimizer has as its next parameter 1"),
        "{error}"
    );
}

#[test]
fn groups_that_shapes_do_not_tell_apart_are_refused() {
    let group = |index: i64| dict(&[(text("params"), list(&[int(index)]))]);
    let w = || tensor("0", 6, 0, &[6], &[1]);
    // Not the same elements, which would be tied.
    let v = || tensor("0", 6, 0, &[3, 2], &[1, 3]);
    let state = |tensor: fn() -> Vec<u8>| {
        dict(&[
            (text("step"), int(1)),
            (text("exp_avg"), tensor()),
            (text("exp_avg_sq"), tensor()),
        ])
    };
    let file = |second: Vec<u8>, second_state: Vec<u8>| {
        let states = dict(&[
            (int(0), state(|| tensor("0", 6, 0, &[6], &[1]))),
            (int(1), second_state),
        ]);
        let optimizer = dict(&[
            (text("state"), states),
            (text("param_groups"), list(&[group(0), group(1)])),
        ]);
        let model = dict(&[(text("a"), second), (text("b"), w())]);
        file_of(dict(&[
            (text("model"), model),
            (text("optimizer"), optimizer),
        ]))
    };
    let scratch = Scratch::new();
    let unlike = file(v(), state(|| tensor("0", 6, 0, &[3, 2], &[1, 3])));
    let found = TorchFile::open(scratch.write(&unlike)).unwrap();
    assert_eq!(found.match_optimizer(|_| true).unwrap(), [Some(1), Some(0)]);
    let alike = file(
        tensor("0", 6, 0, &[6], &[0]),
        state(|| tensor("0", 6, 0, &[6], &[1])),
    );
    let found = TorchFile::open(scratch.write(&alike)).unwrap();
    let error = found.match_optimizer(|_| true).unwrap_err().to_string();
    assert!(
        error.contains("2 groups whose parameters the shapes alone do not tell apart"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn pickles_of_random_opcodes_are_errors_or_sound(
        parts in proptest::collection::vec(0..40_usize, 0..60),
        bytes in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        // Parts of sound pickles, so that most get far.
        let known: Vec<Vec<u8>> = [
            &b"]"[..], b"}", b")", b"(", b"e", b"u", b"t", b"a", b"s", b"0", b"1", b"2", b"R", b"b", b"Q",
            b"\x81", b"\x85", b"\x86", b"\x87", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"\x94", b"\x8f", b"\x90", b"\x91",
            b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"N",
        ].map(<[u8]>::to_vec).into_iter().chain([
            text("storage"), text("0"), int(6), tensor("0", 6, 0, &[6], &[1]), tuple(&[int(2), int(3)]),
            text("state"), text("param_groups"), list(&[dict(&[(text("params"), list(&[int(0)]))])]), bytes,
        ]).collect();
        let value: Vec<u8> = parts.iter().flat_map(|part| known[*part].clone()).collect();
        let scratch = Scratch::new();
        let w = (text("w"), tensor("0", 6, 0, &[6], &[1]));
        let _ = read_all(scratch.write(&file_of(value.clone())));
        let _ = read_all(scratch.write(&file_of(dict(&[w, (text("args"), value)]))));
    }
}
