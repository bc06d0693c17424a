//! Parquet files, which the program reads under a feature of its own that only this package
//! builds.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use gpu_tlm::data::input::{InputOptions, Inputs};
use gpu_tlm::data::tokenizer::train::{TrainOptions, Trainer};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Rows come back in order, whatever the compression and the row groups, without those that have
/// no text; what is wrong is named.
pub(crate) fn check() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("texts.parquet");
    let rows: Vec<Option<String>> = (0..2_000)
        .map(|n| (n % 7 != 3).then(|| format!("text {n} é日\n").repeat(n % 5)))
        .collect();
    let wanted: Vec<String> = rows.iter().flatten().cloned().collect();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        write(&path, &rows, compression)?;
        let found = read(&path, "text")?;
        ensure!(found == wanted, "{compression:?}: other texts came back");
    }
    let error = read(&path, "body").unwrap_err().to_string();
    ensure!(
        error.contains("no column \"body\"") && error.contains("id, text"),
        "{error}"
    );
    let short = InputOptions {
        max_document_bytes: 8,
        ..InputOptions::default()
    };
    let error = read_by(&path, short).unwrap_err().to_string();
    ensure!(
        error.contains("longer than 8 bytes") && error.contains("texts.parquet"),
        "{error}"
    );
    let bytes = std::fs::read(&path)?;
    std::fs::write(&path, &bytes[..bytes.len() - 9])?;
    let error = read(&path, "text").unwrap_err().to_string();
    ensure!(error.contains("texts.parquet"), "{error}");
    println!(
        "parquet: {} texts of {} rows come back",
        wanted.len(),
        rows.len()
    );
    Ok(())
}

fn write(path: &Path, rows: &[Option<String>], compression: Compression) -> Result<()> {
    let schema = "message texts { required int64 id; optional binary text (UTF8); }";
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let schema = Arc::new(parse_message_type(schema)?);
    let mut writer = SerializedFileWriter::new(File::create(path)?, schema, Arc::new(properties))?;
    for rows in rows.chunks(700) {
        let mut group = writer.next_row_group()?;
        let ids: Vec<i64> = (0..).take(rows.len()).collect();
        if let Some(mut column) = group.next_column()? {
            column.typed::<Int64Type>().write_batch(&ids, None, None)?;
            column.close()?;
        }
        let texts = rows.iter().flatten();
        let texts: Vec<ByteArray> = texts.map(|text| ByteArray::from(&text[..])).collect();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
        if let Some(mut column) = group.next_column()? {
            column
                .typed::<ByteArrayType>()
                .write_batch(&texts, Some(&levels), None)?;
            column.close()?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

fn read(path: &Path, field: &str) -> Result<Vec<String>> {
    let options = InputOptions {
        field: field.to_owned(),
        ..InputOptions::default()
    };
    read_by(path, options)
}

fn read_by(path: &Path, options: InputOptions) -> Result<Vec<String>> {
    let mut inputs = Inputs::open(&[path.to_owned()], options)?;
    let trainer = Trainer::new(TrainOptions {
        vocab_size: 256,
        ..TrainOptions::default()
    })?;
    let mut texts = Vec::new();
    while let Some(chunk) = inputs.next_chunk(trainer.specials(), 1_000)? {
        for (document, is_end) in chunk.documents() {
            ensure!(is_end, "a short document was cut");
            texts.push(document.to_owned());
        }
    }
    Ok(texts)
}
