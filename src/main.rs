//! The `gpu-tlm` command: parse, run, exit code.

mod environment;

use std::io::IsTerminal;
use std::process::ExitCode;

use gpu_tlm::cli::{Cli, explain};
use gpu_tlm::gpu::validation;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

fn main() -> ExitCode {
    environment::keep_wayland_quiet();
    let cli = Cli::from_command_line();
    let level = match cli.verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let validates = cli.validates();
    let hal = if validates { "warn" } else { "off" };
    let filter = EnvFilter::try_from_env("GPU_TLM_LOG").unwrap_or_else(|_| {
        EnvFilter::new(format!(
            "warn,gpu_tlm={level},wgpu_hal={hal},wgpu_core=warn"
        ))
    });
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .with_filter(filter);
    tracing_subscriber::registry()
        .with(log)
        .with(validates.then(validation::listen))
        .init();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            tracing::error!("{}", explain(&error));
            ExitCode::from(code)
        }
    }
}
