//! Parquet: a document a row, from one column of strings.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::documents::DocumentReader;
use super::utf8::Utf8Decoder;
use super::{InputError, InputOptions};

/// Rows that are read at a time.
const BATCH_LEN: usize = 256;

/// The rows of one column; those without a value are left out.
pub(super) struct ParquetText {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    column_idx: usize,
    is_lossy: bool,
    max_document_bytes: usize,
    /// Row groups that are read or being read.
    n_groups: usize,
    group: Option<ColumnReaderImpl<ByteArrayType>>,
    batch: std::vec::IntoIter<ByteArray>,
    n_rows: u64,
    replaced: u64,
    counter: Arc<AtomicU64>,
}

impl ParquetText {
    /// Opens the file and finds the column `field`.
    pub(super) fn open(
        path: &Path,
        options: &InputOptions,
        counter: &Arc<AtomicU64>,
    ) -> Result<Self, InputError> {
        let field = &options.field;
        let file = File::open(path).map_err(|cause| InputError::Read {
            path: path.to_owned(),
            cause,
            remedy: "check that the file exists and may be read",
        })?;
        let reader = SerializedFileReader::new(file).map_err(|error| damaged(path, &error))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let column_idx = schema.columns().iter().position(|column| {
            column.path().string() == *field
                && column.physical_type() == Type::BYTE_ARRAY
                && column.max_rep_level() == 0
        });
        let Some(column_idx) = column_idx else {
            let names: Vec<String> = schema
                .columns()
                .iter()
                .map(|column| column.path().string())
                .collect();
            return Err(InputError::Parquet {
                path: path.to_owned(),
                problem: format!(
                    "no column {field:?} of strings; its columns are {}",
                    names.join(", ")
                ),
                remedy: "name the column of the text",
            });
        };
        Ok(Self {
            path: path.to_owned(),
            reader,
            column_idx,
            is_lossy: options.is_lossy,
            max_document_bytes: options.max_document_bytes,
            n_groups: 0,
            group: None,
            batch: Vec::new().into_iter(),
            n_rows: 0,
            replaced: 0,
            counter: Arc::clone(counter),
        })
    }

    /// Reads the next rows, and says whether there are any.
    fn read_batch(&mut self) -> Result<bool, InputError> {
        loop {
            let Some(group) = &mut self.group else {
                if self.n_groups == self.reader.num_row_groups() {
                    return Ok(false);
                }
                self.group = Some(self.open_group(self.n_groups)?);
                self.n_groups += 1;
                continue;
            };
            let (mut values, mut levels) = (Vec::new(), Vec::new());
            let read = group.read_records(BATCH_LEN, Some(&mut levels), None, &mut values);
            let (n_rows, ..) = read.map_err(|error| damaged(&self.path, &error))?;
            if n_rows > 0 {
                self.batch = values.into_iter();
                return Ok(true);
            }
            self.group = None;
        }
    }

    fn open_group(&self, group_idx: usize) -> Result<ColumnReaderImpl<ByteArrayType>, InputError> {
        let open = || {
            let group = self.reader.get_row_group(group_idx)?;
            let size = group.metadata().compressed_size();
            self.counter
                .fetch_add(size.unsigned_abs(), Ordering::Relaxed);
            match group.get_column_reader(self.column_idx)? {
                ColumnReader::ByteArrayColumnReader(reader) => Ok(reader),
                _ => Err(ParquetError::General(
                    "the column changed its type".to_owned(),
                )),
            }
        };
        open().map_err(|error| damaged(&self.path, &error))
    }
}

impl DocumentReader for ParquetText {
    fn next_document(&mut self) -> Result<Option<String>, InputError> {
        loop {
            if let Some(bytes) = self.batch.next() {
                self.n_rows += 1;
                if bytes.len() > self.max_document_bytes {
                    return Err(InputError::TooLong {
                        path: self.path.clone(),
                        what: "text",
                        place: format!("{} of its column", self.n_rows),
                        limit: self.max_document_bytes,
                        cause: "rows may hold whole collections",
                    });
                }
                let mut decoder = Utf8Decoder::new(self.is_lossy);
                let mut text = String::with_capacity(bytes.len());
                if decoder.push(bytes.data(), true, &mut text).is_err() {
                    return Err(InputError::Parquet {
                        path: self.path.clone(),
                        problem: format!("text {} of its column is not UTF-8", self.n_rows),
                        remedy: "convert it first, or have such bytes replaced",
                    });
                }
                self.replaced += decoder.replaced();
                return Ok(Some(text));
            }
            if !self.read_batch()? {
                return Ok(None);
            }
        }
    }

    fn replaced(&self) -> u64 {
        self.replaced
    }
}

fn damaged(path: &Path, error: &ParquetError) -> InputError {
    InputError::Parquet {
        path: path.to_owned(),
        problem: error.to_string(),
        remedy: "copy or download the file again",
    }
}
