//! The files of a run that other programs read.

mod event_file;
mod loss_plot;
