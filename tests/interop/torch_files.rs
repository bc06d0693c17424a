//! Files that PyTorch wrote, against what PyTorch finds in them; `make_torch_fixtures.py` makes both.

use std::path::PathBuf;

use gpu_tlm::interop::torch::{Moment, TorchFile};
use gpu_tlm::interop::{ElementType, TensorInfo, TensorSource};
use serde_json::{Map, Value, json};

/// A file of the fixtures.
pub(super) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/interop/fixtures/torch")
        .join(name)
}

/// The message of the error that opening a fixture gives.
fn refusal(name: &str) -> String {
    TorchFile::open(&fixture(name)).unwrap_err().to_string()
}

fn expected(name: &str) -> Value {
    let path = fixture(&format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A tensor in the form in which the fixtures describe one.
fn described(info: &TensorInfo, bytes: &[u8]) -> Map<String, Value> {
    let dtype = match info.element_type {
        ElementType::F64 => "float64",
        ElementType::F32 => "float32",
        ElementType::F16 => "float16",
        ElementType::Bf16 => "bfloat16",
        ElementType::Other(name) => name,
        other => panic!("{other:?}"),
    };
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let value = json!({"dtype": dtype, "shape": info.shape, "bytes": digits});
    value.as_object().unwrap().clone()
}

fn moment(file: &TorchFile, moment: &Moment) -> Value {
    Value::Object(described(&moment.info, &file.read_moment(moment).unwrap()))
}

/// Compares a file with what PyTorch found in `wanted`.
fn assert_file_is(name: &str, wanted: &str) {
    let (file, wanted) = (TorchFile::open(&fixture(name)).unwrap(), expected(wanted));
    let tensors = file.tensors().iter().enumerate().map(|(index, info)| {
        let mut map = described(info, &file.read(index).unwrap());
        map.insert("name".to_owned(), Value::from(&*info.name));
        Value::Object(map)
    });
    assert_eq!(Value::Array(tensors.collect()), wanted["tensors"], "{name}");
    assert_eq!(json!(file.iteration()), wanted["iteration"], "{name}");
    assert_eq!(json!(file.metadata()), wanted["metadata"], "{name}");
    let Some(groups) = wanted.get("groups") else {
        assert!(file.optimizer().is_none(), "{name}");
        return;
    };
    let optimizer = file.optimizer().unwrap();
    let found = optimizer.groups.iter().map(|group| {
        let parameters = &optimizer.parameters[group.parameters.clone()];
        let mut map = group.settings.clone();
        let indices: Vec<u64> = parameters.iter().map(|p| p.index).collect();
        map.insert("params".to_owned(), json!(indices));
        Value::Object(map)
    });
    assert_eq!(Value::Array(found.collect()), *groups, "{name}");
    let state: Map<String, Value> = optimizer
        .parameters
        .iter()
        .map(|parameter| {
            let moments = parameter.moments.as_ref().unwrap();
            assert!(parameter.unread.is_empty(), "{name}");
            let value = json!({
                "step": moments.step,
                "exp_avg": moment(&file, &moments.exp_avg),
                "exp_avg_sq": moment(&file, &moments.exp_avg_sq),
            });
            (parameter.index.to_string(), value)
        })
        .collect();
    assert_eq!(Value::Object(state), wanted["state"], "{name}");
}

#[test]
fn files_are_what_torch_finds_in_them() {
    for name in [
        "zip.pt",
        "torch113_zip.pt",
        "protocol3.pt",
        "protocol4.pt",
        "protocol5.pt",
        "groups.pt",
        "named.pt",
        "types.pt",
        "uint16.pt",
        "views.pt",
        "views_legacy.pt",
        "tied.pt",
        "prefix_both.pt",
        "prefix_nested.pt",
        "parameter.pt",
        "numpy.pt",
        "course.pt",
    ] {
        assert_file_is(name, name);
    }
    assert_file_is("legacy.pt", "zip.pt");
    assert_file_is("torch113_legacy.pt", "torch113_zip.pt");
}

#[test]
fn tied_tensors_name_the_first_of_them() {
    let tied = TorchFile::open(&fixture("tied.pt")).unwrap();
    assert_eq!(tied.tied(), [0, 1, 0]);
    // Views of one storage are not tied for that.
    let views = TorchFile::open(&fixture("views.pt")).unwrap();
    let own: Vec<usize> = (0..views.tensors().len()).collect();
    assert_eq!(views.tied(), own);
}

/// The model of the fixtures is `embed`, `gain`, `head` and the buffer `mask`.
fn is_parameter(info: &TensorInfo) -> bool {
    info.name != "mask"
}

#[test]
fn parameters_of_an_optimizer_find_their_tensors() {
    for (name, want) in [
        // In the order of the model: embed, gain, head.
        ("zip.pt", [Some(0), Some(1), Some(2)]),
        ("legacy.pt", [Some(0), Some(1), Some(2)]),
        // Matrices and the gain in groups, which shapes tell apart.
        ("groups.pt", [Some(0), Some(2), Some(1)]),
        // The head first, then the others, which only names tell.
        ("named.pt", [Some(1), Some(2), Some(0)]),
    ] {
        let file = TorchFile::open(&fixture(name)).unwrap();
        let names: Vec<&str> = file.tensors().iter().map(|info| &*info.name).collect();
        assert_eq!(names, ["embed", "gain", "head", "mask"], "{name}");
        let mut want = want.to_vec();
        want.push(None);
        assert_eq!(file.match_optimizer(is_parameter).unwrap(), want, "{name}");
    }
}

#[test]
fn an_optimizer_that_does_not_fit_names_the_first_tensor() {
    let file = TorchFile::open(&fixture("zip.pt")).unwrap();
    let problem = |is_parameter: fn(&TensorInfo) -> bool| {
        file.match_optimizer(is_parameter).unwrap_err().to_string()
    };
    let all = problem(|_| true);
    assert!(all.contains("'mask' has the shape [2, 2]"), "{all}");
    assert!(all.contains("no parameter left: it has 3"), "{all}");
    let fewer = problem(|info| info.name != "mask" && info.name != "gain");
    let want = "'head' has the shape [3, 2], but the optimizer has as its next parameter 1 with \
                moments of the shape [2]";
    assert!(fewer.contains(want), "{fewer}");
    let few = problem(|info| info.name == "embed");
    assert!(few.contains("3 parameters where the model has 1"), "{few}");
    let named = TorchFile::open(&fixture("named.pt")).unwrap();
    let named = named.match_optimizer(|_| true).unwrap_err().to_string();
    assert!(
        named.contains("'mask' is no parameter of the optimizer"),
        "{named}"
    );
    let none = TorchFile::open(&fixture("tied.pt")).unwrap();
    let none = none.match_optimizer(|_| true).unwrap_err().to_string();
    assert!(none.contains("no optimizer"), "{none}");
}

#[test]
fn objects_that_are_no_tensors_are_refused_by_their_names() {
    for name in ["command.pt", "command_legacy.pt"] {
        let error = refusal(name);
        // As pickle writes `os.system`.
        assert!(error.contains("'posix.system'"), "{error}");
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn values_that_contain_themselves_are_refused() {
    let error = refusal("cycle.pt");
    assert!(error.contains("'config' contains itself"), "{error}");
}

#[test]
fn a_file_without_a_model_says_what_it_has() {
    let error = refusal("no_model.pt");
    assert!(
        error.contains("'model_state_dict', 'model', 'state_dict'"),
        "{error}"
    );
    assert!(error.contains("but: 'net', 'epoch'"), "{error}");
}
