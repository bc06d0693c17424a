//! TensorBoard event files: scalars over training steps, as TFRecords of `Event` messages.
//!
//! The record framing is TensorFlow's `lib/io/record_writer.h`; the messages are `Event` and
//! `Summary` of `tensorboard/compat/proto/{event,summary}.proto`, encoded by hand because only
//! five of their fields are used.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc, Table};

use crate::files;

/// CRC-32C (Castagnoli), the checksum of a TFRecord.
const CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// Added to a rotated checksum so that a checksum of data with checksums in it stays useful.
const CRC_MASK_DELTA: u32 = 0xa282_ead8;
/// The version of the `Event` format that the first record of a file names.
const FILE_VERSION: &str = "brain.Event:2";

// Field numbers of the messages.
const EVENT_WALL_TIME: u8 = 1;
const EVENT_STEP: u8 = 2;
const EVENT_FILE_VERSION: u8 = 3;
const EVENT_SUMMARY: u8 = 5;
const SUMMARY_VALUE: u8 = 1;
const VALUE_TAG: u8 = 1;
const VALUE_SIMPLE_VALUE: u8 = 2;

/// Writes one event file. TensorBoard joins the files of a directory by their names, which start
/// with the time, so a resumed run opens a new one and its curves go on.
#[derive(Debug)]
pub struct EventWriter {
    out: BufWriter<File>,
    path: PathBuf,
}

impl EventWriter {
    /// Creates `events.out.tfevents.<unix seconds>.<host>` in `logdir`, and `logdir` where it is
    /// missing. A file that exists is left alone: the new one gets a number after its name.
    ///
    /// # Errors
    /// If the directory or the file cannot be created, or the first record not be written.
    pub fn open(logdir: &Path) -> io::Result<Self> {
        files::create_folder(logdir).map_err(|cause| at(logdir, "create the directory", &cause))?;
        let now = since_epoch();
        let (path, file) = create_new(logdir, now.as_secs())?;
        let mut writer = Self {
            out: BufWriter::new(file),
            path,
        };
        writer.event(now, |event| {
            put_bytes(event, EVENT_FILE_VERSION, FILE_VERSION.as_bytes());
        })?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file that is written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one point of the curve `tag`, with the present time. Tags with a common prefix up to
    /// a `/` share a section in TensorBoard; a `value` that is not finite is kept and shown as
    /// such.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f32) -> io::Result<()> {
        let mut point = Vec::with_capacity(tag.len() + 16);
        put_bytes(&mut point, VALUE_TAG, tag.as_bytes());
        put_fixed(&mut point, VALUE_SIMPLE_VALUE, &value.to_le_bytes());
        let mut summary = Vec::with_capacity(point.len() + 8);
        put_bytes(&mut summary, SUMMARY_VALUE, &point);
        self.event(since_epoch(), |event| {
            put_integer(event, EVENT_STEP, step);
            put_bytes(event, EVENT_SUMMARY, &summary);
        })
    }

    /// Hands all points to the operating system, so that TensorBoard sees them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        flushed.map_err(|cause| at(&self.path, "write", &cause))
    }

    fn event(&mut self, time: Duration, put_rest: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut event = Vec::with_capacity(64);
        let wall_time_s = time.as_secs_f64();
        put_fixed(&mut event, EVENT_WALL_TIME, &wall_time_s.to_le_bytes());
        put_rest(&mut event);
        let written = write_record(&mut self.out, &event);
        written.map_err(|cause| at(&self.path, "write", &cause))
    }
}

/// One TFRecord: the length, its checksum, the data, its checksum, all little-endian.
fn write_record(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked_crc32c(&length).to_le_bytes())?;
    out.write_all(data)?;
    out.write_all(&masked_crc32c(data).to_le_bytes())
}

fn masked_crc32c(data: &[u8]) -> u32 {
    CRC32C
        .checksum(data)
        .rotate_right(15)
        .wrapping_add(CRC_MASK_DELTA)
}

/// A key and a 4 or 8 byte little-endian value: wire type 5 or 1.
fn put_fixed<const N: usize>(out: &mut Vec<u8>, field: u8, bytes: &[u8; N]) {
    const { assert!(N == 4 || N == 8, "a fixed field has 4 or 8 bytes") };
    out.push(field << 3 | if N == 4 { 5 } else { 1 });
    out.extend_from_slice(bytes);
}

/// A key and a length-delimited value: wire type 2.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A key and a variable-length integer: wire type 0.
fn put_integer(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    put_varint(out, value);
}

/// Seven bits a byte, low ones first; all but the last byte have the high bit set.
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn create_new(logdir: &Path, unix_s: u64) -> io::Result<(PathBuf, File)> {
    let name = format!("events.out.tfevents.{unix_s}.{}", host());
    let mut path = logdir.join(&name);
    let mut n_taken = 0;
    loop {
        match files::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                n_taken += 1;
                path = logdir.join(format!("{name}.{n_taken}"));
            }
            Err(cause) => return Err(at(&path, "create", &cause)),
        }
    }
}

/// The name of this machine, with only such characters as every file system takes.
fn host() -> String {
    let name = gethostname::gethostname();
    name.to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

/// Zero where the clock stands before 1970: a wrong time should not end a training run.
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn at(path: &Path, action: &str, cause: &io::Error) -> io::Error {
    io::Error::new(
        cause.kind(),
        format!("cannot {action} {}: {cause}", path.display()),
    )
}
