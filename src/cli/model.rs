//! Which model, for commands that use one.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::data::tokenizer::{TokenRoles, Tokenizer, TokenizerError};

/// The model and its tokenizer.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelArgs {
    /// Checkpoint of the model, or a file or folder of another program: a Hugging Face folder, GGUF, a PyTorch
    /// checkpoint, llama2.c, safetensors
    #[arg(long, value_name = "PATH")]
    pub(super) checkpoint: PathBuf,
    #[command(flatten)]
    base: BaseArgs,
    /// Folder of the tokenizer that the model was trained with [default: the model's own, or that of the run that trained it]
    #[arg(long, value_name = "DIR")]
    pub(super) tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub(super) context: ContextArgs,
    /// Go on with another tokenizer than the checkpoint's
    #[arg(long)]
    pub(super) ignore_tokenizer_mismatch: bool,
}

/// A tokenizer, and the roles of its tokens.
pub(super) type ModelTokenizer = (Tokenizer, TokenRoles);

/// Where the model is that adapters are of.
#[derive(Clone, Debug, clap::Args)]
pub struct BaseArgs {
    /// The model that the adapters of a checkpoint are of, where it does not lie where they say
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
}

impl BaseArgs {
    /// Opens a checkpoint.
    pub(super) fn open(&self, checkpoint: &Path) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::open_beside(checkpoint, self.base.as_deref())
    }
}

/// How much of a text a model sees.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ContextArgs {
    /// Most tokens that the model sees, for less memory than all that it could see
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
}

impl ContextArgs {
    /// Limits what the model of a checkpoint sees.
    pub(super) fn limit(self, checkpoint: &mut Checkpoint) -> Result<(), Error> {
        match self.context_length {
            Some(tokens) => Ok(checkpoint.limit_context(tokens)?),
            None => Ok(()),
        }
    }
}

impl ModelArgs {
    /// Opens both, which belong together unless it does not matter.
    pub(super) fn open(&self) -> Result<(Checkpoint, Option<ModelTokenizer>), Error> {
        self.open_by(Checkpoint::tokenizer)
    }

    /// [`ModelArgs::open`] for whoever gives ids, and gets ids of a model whose files have no tokenizer.
    pub(super) fn open_for_ids(&self) -> Result<(Checkpoint, Option<ModelTokenizer>), Error> {
        self.open_by(Checkpoint::tokenizer_of_files)
    }

    fn open_by(
        &self,
        own: impl Fn(&Checkpoint) -> Result<Option<ModelTokenizer>, TokenizerError>,
    ) -> Result<(Checkpoint, Option<ModelTokenizer>), Error> {
        let given = match &self.tokenizer {
            Some(path) => Some(Tokenizer::load_with_roles(path)?),
            None => None,
        };
        let mut checkpoint = self.base.open(&self.checkpoint)?;
        self.context.limit(&mut checkpoint)?;
        let own = match given {
            Some(given) => Some(given),
            // Whoever gives ids needs none.
            None => own(&checkpoint).unwrap_or_else(|error| {
                tracing::warn!("going on without the model's own tokenizer: {error}");
                None
            }),
        };
        let own = own.map(|(tokenizer, roles)| (tokenizer.with_prompts_of(&roles), roles));
        if let Some((tokenizer, _)) = own.as_ref().filter(|_| !self.ignore_tokenizer_mismatch) {
            checkpoint.expect_tokenizer(Some(&tokenizer.hash()))?;
        }
        Ok((checkpoint, own))
    }
}
