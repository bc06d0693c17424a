//! GPT-2's tokenizer in each of the three implementations, all from the ranks that tiktoken-rs
//! brings along.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use gpu_tlm::data::tokenizer::{Format, Tokenizer};
use tiktoken_rs::{CoreBPE, r50k_base};

/// Number of GPT-2's tokens without the special one.
const N_RANKS: u32 = 50_256;

/// The special token.
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";

/// Three programs with one vocabulary.
pub(crate) struct Gpt2 {
    pub(crate) ours: Tokenizer,
    pub(crate) tiktoken: CoreBPE,
    pub(crate) hugging_face: tokenizers::Tokenizer,
}

impl Gpt2 {
    /// Writes tiktoken's ranks to a file that ours reads, and ours to one that Hugging Face's
    /// reads, so that the formats are held against their own programs on the way.
    pub(crate) fn load() -> Result<Self> {
        let tiktoken = r50k_base()?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("r50k.tiktoken");
        write_ranks(&tiktoken, &path)?;
        let ours = Tokenizer::load_with(&path, None, &[END_OF_TEXT.to_owned()])?;
        ours.save_as(Format::HuggingFace, folder.path())?;
        let json = folder.path().join("tokenizer.json");
        let hugging_face = tokenizers::Tokenizer::from_file(json).map_err(|e| anyhow!(e))?;
        Ok(Self {
            ours,
            tiktoken,
            hugging_face,
        })
    }

    /// Ids by ours, by tiktoken and by Hugging Face.
    pub(crate) fn encode(&self, text: &str) -> Result<[Vec<u32>; 3]> {
        let hugging_face = self.hugging_face.encode_fast(text, false);
        let hugging_face = hugging_face.map_err(|e| anyhow!(e))?;
        Ok([
            self.ours.encode(text),
            self.tiktoken.encode_with_special_tokens(text),
            hugging_face.get_ids().to_vec(),
        ])
    }
}

fn write_ranks(tiktoken: &CoreBPE, path: &Path) -> Result<()> {
    let mut lines = String::new();
    for rank in 0..N_RANKS {
        let bytes = tiktoken
            .decode_bytes(&[rank])
            .ok()
            .with_context(|| format!("tiktoken has no token {rank}"))?;
        lines.push_str(&format!("{} {rank}\n", base64(&bytes)));
    }
    Ok(std::fs::write(path, lines)?)
}

/// RFC 4648, section 4; written out here so that reading is checked against other code.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(match digit <= group.len() {
                true => char::from(DIGITS[value as usize]),
                false => '=',
            });
        }
    }
    text
}
