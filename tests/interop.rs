//! Models of other programs.

mod exported;
mod hugging_face;
mod malformed;
mod peft;
mod round_trips;
mod torch_damaged;
mod torch_files;
mod torch_hostile;
mod torch_pickles;
mod torch_written;
