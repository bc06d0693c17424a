//! `gpu-tlm serve`: a model behind HTTP.

use std::path::PathBuf;

use super::AdapterArgs;
use super::model::ModelArgs;
use crate::Error;
use crate::decode::{DecodeError, Generator, InferenceModel};
use crate::serve::{self, ServeError, ServedModel, Server, ServerOptions, Stop};
use crate::tuner;

/// Arguments of `gpu-tlm serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Example:\n  gpu-tlm serve --checkpoint runs/latest/checkpoints/latest.safetensors\n  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \\\n      \
    -d '{\"prompt\": \"Once\", \"max_tokens\": 40}'\n\nThe page at http://127.0.0.1:8080 is for trying it. Ctrl-C finishes what was taken on; a second one \
    ends at once."
)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Address or name to listen on; one that other machines can reach needs a key
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// File that holds the key which requests have to bring
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Another host name by which the server may be asked, for instance a proxy's; may be given several times
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<String>,
    /// Name of the model in the API [default: that of the run's folder, or of the file]
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// Sequences to generate at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    slots: usize,
    /// Requests that may wait for a slot; more are refused
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_queue: usize,
    #[command(flatten)]
    tuning: super::TuningArgs,
    #[command(flatten)]
    pub(super) adapter: AdapterArgs,
}

/// Serves until it is told to stop; prints its address once it answers.
///
/// # Errors
/// When a file does not fit, it cannot listen, or the device fails.
pub fn run(args: &ServeArgs) -> Result<(), Error> {
    if args.slots == 0 {
        return Err(ServeError::Zero { name: "slots" }.into());
    }
    let tuning = args.tuning.options()?;
    let key = args.api_key_file.as_deref().map(serve::read_key);
    let server = Server::bind(&ServerOptions {
        host: args.host.clone(),
        port: args.port,
        key: key.transpose()?,
        allowed_hosts: args.allowed_host.clone(),
        max_queue: args.max_queue,
    })?;
    let (checkpoint, tokenizer) = args.model.open()?;
    let (tokenizer, roles) = tokenizer.ok_or(DecodeError::NoOwnTokenizer)?;
    let device = args.adapter.open()?;
    let model = InferenceModel::new(checkpoint, device.target().max_binding_words)?;
    let mut generator = Generator::new(device, model, args.slots)?;
    let lengths = 1..=generator.config().context_length;
    let tuned = tuner::tune(generator.device(), &tuning, |device| {
        Ok(generator.questions(&device.target(), lengths))
    })?;
    generator.set_choices(tuned.device.choices().clone());
    let name = args.model_name.clone();
    let model = ServedModel::new(
        &generator,
        (tokenizer, &roles),
        &args.model.checkpoint,
        name,
    );
    let stop = Stop::default();
    let on_signal = stop.clone();
    super::on_interrupt(
        "finishing what was taken on; once more to stop at once",
        move || on_signal.stop(),
    );
    tracing::info!(
        "serving the model '{}' at http://{}",
        model.name(),
        server.address()
    );
    super::print(&format!("http://{}\n", server.address()))?;
    server.run(&mut generator, model, &stop)
}
