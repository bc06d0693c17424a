//! Chats: the template by which a model has them as text, and files of instruction data.

mod error;
mod examples;
mod message;
mod template;

pub use error::ChatError;
pub use examples::read_examples;
pub use message::{Message, Role};
pub use template::ChatTemplate;
