//! The WGSL files of this program. Each names at its top the helper files that it is joined with, and
//! these name theirs; nothing else decides what a shader consists of.

/// One file of WGSL.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Path below `shaders/`; no two files have the same name.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// Names a shader file and takes its text into the binary.
#[macro_export]
macro_rules! shader {
    ($file:literal) => {
        $crate::wgsl::Source {
            file: $file,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file)),
        }
    };
}

/// Every helper file, by whose name others ask for it.
pub static HELPERS: &[Source] = &[
    shader!("attention/attention_d_output_quad.texture.wgsl"),
    shader!("attention/attention_d_output_quad.wgsl"),
    shader!("attention/attention_quads.texture.wgsl"),
    shader!("attention/attention_quads.wgsl"),
    shader!("attention/attention_cooperative.wgsl"),
    shader!("attention/attention_cooperative_backward.wgsl"),
    shader!("attention/attention_cache.wgsl"),
    shader!("shared/operand_halves.wgsl"),
    shader!("attention/attention_end_query.wgsl"),
    shader!("attention/attention_first_key.wgsl"),
    shader!("attention/attention_head_quad.wgsl"),
    shader!("attention/attention_newest.wgsl"),
    shader!("attention/attention_query_rows.wgsl"),
    shader!("attention/attention_subgroup.wgsl"),
    shader!("attention/attention_tiles.wgsl"),
    shader!("attention/attention_turned_back.wgsl"),
    shader!("shared/operand_words.wgsl"),
    shader!("gelu/gelu_argument.wgsl"),
    shader!("half/half_bits.wgsl"),
    shader!("half/unpacked_halves.wgsl"),
    shader!("head_norm/head_norm_heads.wgsl"),
    shader!("matmul/cooperative_16.wgsl"),
    shader!("matmul/cooperative_8.wgsl"),
    shader!("matmul/matmul_epilogue.wgsl"),
    shader!("matmul/matmul_few_texture.wgsl"),
    shader!("matmul/matmul_keep_words.wgsl"),
    shader!("matmul/matmul_line_of_col.wgsl"),
    shader!("matmul/matmul_load_f16.wgsl"),
    shader!("matmul/matmul_load_f32.wgsl"),
    shader!("matmul/matmul_outer.wgsl"),
    shader!("matmul/matmul_slices_f16.wgsl"),
    shader!("matmul/matmul_store.wgsl"),
    shader!("matmul/matmul_store_f16.wgsl"),
    shader!("matmul/matmul_store_pair.wgsl"),
    shader!("matmul/matmul_store_quad.wgsl"),
    shader!("matmul/matmul_store_word.wgsl"),
    shader!("matmul/matmul_tile.wgsl"),
    shader!("matmul/matmul_tiled_slices.wgsl"),
    shader!("rmsnorm/subgroup_row.wgsl"),
    shader!("sample/sample_bins.wgsl"),
    shader!("sample/sample_mass.wgsl"),
    shader!("shared/elements_quads.wgsl"),
    shader!("shared/elements_words.wgsl"),
    shader!("shared/falling_order.wgsl"),
    shader!("shared/flat_workgroup.wgsl"),
    shader!("shared/most_negative.wgsl"),
    shader!("shared/reduce_max.wgsl"),
    shader!("shared/reduce_sum.wgsl"),
    shader!("shared/scaled_quants.wgsl"),
    shader!("shared/sigmoid.wgsl"),
    shader!("shared/subgroup_lanes.wgsl"),
];

/// How the line begins that names the helpers of a file, among the comments at its top:
/// `// Joined with reduce_sum.wgsl, elements_words.wgsl or elements_quads.wgsl.`
const JOINED_WITH: &str = "// Joined with ";

impl Source {
    /// The file's name, without its folder.
    pub fn name(&self) -> &'static str {
        self.file.rsplit('/').next().unwrap_or(self.file)
    }

    /// What its top names. Two names are alternatives of which a kernel takes one: the first goes
    /// through rows word by word and the second by quads, or the first reads words and the second halves.
    pub fn joined_with(&self) -> Vec<Vec<&'static str>> {
        let top = self.text.lines().take_while(|line| line.starts_with("//"));
        let named = top.filter_map(|line| line.strip_prefix(JOINED_WITH)?.strip_suffix('.'));
        named
            .flat_map(|list| list.split(", "))
            .map(|entry| entry.split(" or ").collect())
            .collect()
    }

    /// The helpers that it is joined with, each once: its own and theirs.
    ///
    /// # Panics
    /// If no helper has a name that is asked for, which a test would find.
    pub fn helpers(&self, second: bool) -> Vec<&'static Source> {
        let mut found = Vec::new();
        self.add_helpers(second, &mut found);
        found
    }

    fn add_helpers(&self, second: bool, found: &mut Vec<&'static Source>) {
        for alternatives in self.joined_with() {
            let name = match alternatives[..] {
                [words, quads] => [words, quads][usize::from(second)],
                _ => alternatives[0],
            };
            let helper = HELPERS.iter().find(|helper| helper.name() == name);
            let helper = helper.unwrap_or_else(|| panic!("{} wants {name}", self.file));
            if !found.iter().any(|known| known.file == helper.file) {
                found.push(helper);
                helper.add_helpers(second, found);
            }
        }
    }
}
