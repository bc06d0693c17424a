//! The bytes of a pickle, taken one operand at a time.

use super::value::Node;
use crate::interop::torch::problem::Problem;

/// Bytes and a place among them.
pub(crate) struct Operands<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Operands<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Problem> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| {
            Problem::damaged(format!(
                "its pickle ends within an opcode that needs {len} bytes at byte {}",
                self.at
            ))
        })?;
        self.at += len;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    /// An unsigned number of `N` bytes.
    pub(crate) fn number<const N: usize>(&mut self) -> Result<u64, Problem> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.take(N)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// Bytes after a length of `N` bytes.
    pub(crate) fn counted<const N: usize>(&mut self) -> Result<&'a [u8], Problem> {
        let len = self.number::<N>()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    pub(crate) fn text<const N: usize>(&mut self) -> Result<Node, Problem> {
        let text = std::str::from_utf8(self.counted::<N>()?);
        let text = text.map_err(|_| Problem::damaged("its pickle has a text that is no UTF-8"))?;
        Ok(Node::Str(text.into()))
    }

    /// The bytes up to the end of the line.
    pub(crate) fn line(&mut self) -> Result<&'a str, Problem> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|byte| *byte == b'\n');
        let len = len.ok_or_else(|| Problem::damaged("its pickle ends within a name"))?;
        self.at += len + 1;
        std::str::from_utf8(&rest[..len])
            .map_err(|_| Problem::damaged("its pickle has a name that is no UTF-8"))
    }
}

/// The integer of a two's complement of any length.
pub(crate) fn long(bytes: &[u8]) -> Node {
    let is_negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    let fill = if is_negative { 0xff } else { 0 };
    let (low, high) = bytes.split_at(bytes.len().min(8));
    let mut all = [fill; 8];
    all[..low.len()].copy_from_slice(low);
    let number = i64::from_le_bytes(all);
    // The bytes above may only repeat the sign.
    match high.iter().all(|byte| *byte == fill) && (number < 0) == is_negative {
        true => Node::Int(number),
        false => Node::Long(bytes.into()),
    }
}

/// A string of Python 2: text where it can be, else bytes.
pub(crate) fn python2_text(bytes: &[u8]) -> Node {
    std::str::from_utf8(bytes)
        .map_or_else(|_| Node::Bytes(bytes.into()), |text| Node::Str(text.into()))
}
