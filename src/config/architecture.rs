//! What a model's blocks are made of, where it is not what Llama's are made of.

/// How rows are normalised.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// By the root mean square, with a gain (Zhang and Sennrich 2019).
    #[default]
    Rms,
    /// To mean 0 and variance 1, with a gain and a bias (Ba, Kiros and Hinton 2016).
    Layer,
}

/// What is between the matrices of the feed-forward layer.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `silu(w1 x) * w3 x` (Shazeer 2020).
    #[default]
    Swiglu,
    /// `gelu(w1 x)` by its tanh approximation (Hendrycks and Gimpel 2016), without a gate.
    Gelu,
}

/// How a model knows where in its sequence a token stands.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// Queries and keys are turned by angles (Su et al. 2021).
    #[default]
    Rope,
    /// Each position has a vector that is added to the token's.
    Learned,
}

/// How rotary angles are changed for contexts longer than a model was first trained with.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// All are divided by a factor (Chen et al. 2023).
    Linear,
    /// Slow ones are divided by a factor, fast ones stay, and those between are in between (Llama 3.1).
    Llama3,
}

/// What of a model's architecture differs from Llama's; the default does in nothing.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Architecture {
    /// Elements of a head; none for d_model / num_heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// How rows are normalised.
    pub norm: Norm,
    /// What the feed-forward layer does.
    pub activation: Activation,
    /// How positions are known.
    pub positions: Positions,
    /// Whether linear layers but the head have biases.
    pub biases: bool,
    /// Whether each head of queries and keys is normalised before it is turned.
    pub qk_norm: bool,
    /// How rotary angles are changed.
    pub rope_scaling: RopeScaling,
    /// What they are divided by.
    pub rope_factor: f64,
    /// [`RopeScaling::Llama3`]: turns in the original context below which an angle is slow.
    pub rope_low_freq_factor: f64,
    /// [`RopeScaling::Llama3`]: turns in the original context above which an angle is fast.
    pub rope_high_freq_factor: f64,
    /// [`RopeScaling::Llama3`]: tokens of the original context.
    pub rope_original_context: usize,
}

impl Default for Architecture {
    fn default() -> Self {
        Self {
            head_dim: None,
            norm: Norm::default(),
            activation: Activation::default(),
            positions: Positions::default(),
            biases: false,
            qk_norm: false,
            rope_scaling: RopeScaling::default(),
            rope_factor: 1.0,
            rope_low_freq_factor: 1.0,
            rope_high_freq_factor: 4.0,
            rope_original_context: 8192,
        }
    }
}
