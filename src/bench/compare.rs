//! The figures of an earlier run, to set this one's against.

use std::path::Path;

use serde_json::Value;

use super::{BenchError, Report};

/// Times of an earlier run.
pub struct Earlier {
    adapter: String,
    /// Kernel, variant, shape and milliseconds.
    rows: Vec<([String; 3], f64)>,
}

impl Earlier {
    /// Reads what `gpu-tlm bench kernels --json` wrote.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(path: &Path) -> Result<Self, BenchError> {
        let wrong = |reason: String| BenchError::NoBaseline {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let adapter = value["adapter"].as_str();
        let adapter = adapter.ok_or_else(|| wrong("it has no key 'adapter'".to_owned()))?;
        let rows = value["rows"].as_array();
        let rows = rows.ok_or_else(|| wrong("it has no list 'rows'".to_owned()))?;
        let row = |row: &Value| {
            let text = |key: &str| Some(row[key].as_str()?.to_owned());
            let key = [text("kernel")?, text("variant")?, text("shape")?];
            Some((key, row["ms"].as_f64()?))
        };
        Ok(Self {
            adapter: adapter.to_owned(),
            // A row without a time had wrong outputs then.
            rows: rows.iter().filter_map(row).collect(),
        })
    }

    /// The adapter that it ran on.
    pub fn adapter(&self) -> &str {
        &self.adapter
    }

    /// Fills in the ratio of each row that the earlier run has too.
    pub fn add_ratios(&self, report: &mut Report) {
        for row in &mut report.rows {
            let key = [&row.kernel, &row.variant, &row.shape];
            let same = |(known, _): &&([String; 3], f64)| known.iter().eq(key);
            let earlier_ms = self.rows.iter().find(same).map(|(_, ms)| *ms);
            row.ratio = earlier_ms.zip(row.ms).map(|(earlier, now)| earlier / now);
        }
    }
}
