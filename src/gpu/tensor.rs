//! Handles that name device memory inside a plan; plain data, no GPU object behind them yet.

/// Index of a storage in its [`Plan`](super::Plan).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(pub(crate) u32);

/// What a tensor consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// 4-byte words.
    Words,
    /// 2-byte floats, two in a word, the first in its lower half.
    Halves,
}

impl Elements {
    /// Elements of a word.
    pub fn per_word(self) -> usize {
        match self {
            Self::Words => 1,
            Self::Halves => 2,
        }
    }
}

/// Elements of a block of `q8_0`.
pub const BLOCK_LEN: usize = 32;

/// Rows of halves begin at multiples of so many elements, 16 bytes, and may be read to their end.
pub const HALVES_MULTIPLE: usize = 8;

/// A row-major matrix inside one storage of a plan.
///
/// A vector is a matrix of one row. Float or integer is for the kernel that binds words to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub(crate) storage: StorageId,
    /// First word, counted from the storage's start.
    pub(crate) offset: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from one row to the next: more than `cols` in a view of some columns.
    pub row_stride: usize,
    /// What a row consists of.
    pub elements: Elements,
    /// Whether they are instead blocks of 32 signed bytes with a scale of 2 bytes each, as ggml's `q8_0`: the bytes
    /// of all rows, four in a word, and behind them the scales, two in a word.
    pub is_q8_0: bool,
}

impl Tensor {
    /// All of `[rows, cols]` from a storage's start, without gaps.
    pub(crate) fn dense(storage: StorageId, rows: usize, cols: usize) -> Self {
        Self {
            storage,
            offset: 0,
            rows,
            cols,
            row_stride: cols,
            elements: Elements::Words,
            is_q8_0: false,
        }
    }

    /// `[rows, cols]` of halves from a storage's start, with gaps up to [`HALVES_MULTIPLE`].
    pub(crate) fn halves(storage: StorageId, rows: usize, cols: usize) -> Self {
        Self {
            row_stride: cols.next_multiple_of(HALVES_MULTIPLE),
            elements: Elements::Halves,
            ..Self::dense(storage, rows, cols)
        }
    }

    /// Words that [`Tensor::as_halves`] of `[rows, cols]` takes.
    pub(crate) fn words_of_halves(rows: usize, cols: usize) -> usize {
        rows * cols.next_multiple_of(HALVES_MULTIPLE) / 2
    }

    /// Its first words seen as `[rows, cols]` of halves.
    ///
    /// # Panics
    /// If there are not enough, or there are gaps between them.
    pub(crate) fn as_halves(self, rows: usize, cols: usize) -> Self {
        let enough = self.len() >= Self::words_of_halves(rows, cols);
        assert!(
            enough && self.is_dense(),
            "{rows} x {cols} halves of {self:?}"
        );
        Self {
            offset: self.offset,
            ..Self::halves(self.storage, rows, cols)
        }
    }

    /// Words of `[rows, cols]` of `q8_0`, scales included.
    pub(crate) fn words_of_q8_0(rows: usize, cols: usize) -> usize {
        let len = rows * cols;
        len / 4 + (len / BLOCK_LEN).div_ceil(2)
    }

    /// Its first words seen as `[rows, cols]` of `q8_0`.
    ///
    /// # Panics
    /// If there are not enough, there are gaps between them, or rows are no whole blocks.
    pub(crate) fn as_q8_0(self, rows: usize, cols: usize) -> Self {
        let enough = self.len() >= Self::words_of_q8_0(rows, cols);
        assert!(
            enough && self.is_dense() && cols.is_multiple_of(BLOCK_LEN),
            "{rows} x {cols} of q8_0 in {self:?}"
        );
        Self {
            offset: self.offset,
            is_q8_0: true,
            ..Self::dense(self.storage, rows, cols)
        }
    }

    /// Whether its elements are halves.
    pub fn is_halves(&self) -> bool {
        self.elements == Elements::Halves
    }

    /// Words from one row to the next.
    pub fn row_words(&self) -> usize {
        self.row_stride / self.elements.per_word()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether its elements lie without gaps.
    pub fn is_dense(&self) -> bool {
        self.rows <= 1 || self.row_stride == self.cols
    }

    /// Whether there is no element at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Words from its first element to its last, gaps included; of halves, to the end of the last row's
    /// own gap, up to which kernels read.
    pub fn span(&self) -> usize {
        if self.is_q8_0 {
            return Self::words_of_q8_0(self.rows, self.cols);
        }
        let last = match self.elements {
            Elements::Words => self.cols,
            Elements::Halves => self.cols.next_multiple_of(HALVES_MULTIPLE) / 2,
        };
        match self.rows {
            0 => 0,
            rows => (rows - 1) * self.row_words() + last,
        }
    }

    /// Size in bytes of what has to be bound, gaps included.
    pub fn size_bytes(&self) -> u64 {
        self.span() as u64 * 4
    }

    /// The same words seen as `[rows, cols]`.
    ///
    /// # Panics
    /// If the number of elements differs, or there are gaps between them.
    pub fn reshape(self, rows: usize, cols: usize) -> Self {
        assert_eq!(
            self.len(),
            rows * cols,
            "reshape must keep the number of elements"
        );
        assert!(self.is_dense(), "reshape of {self:?}, which has gaps");
        self.expect_no_scales();
        Self {
            rows,
            cols,
            row_stride: cols,
            ..self
        }
    }

    /// Its rows in `count` groups of equally many, each of which becomes one row with gaps in it.
    ///
    /// # Panics
    /// If the rows do not divide so.
    pub fn sequences(self, count: usize) -> Self {
        assert!(
            self.rows.is_multiple_of(count),
            "{count} groups of {self:?}"
        );
        self.expect_no_scales();
        let rows = self.rows / count;
        Self {
            rows: count,
            cols: (rows - 1) * self.row_stride + self.cols,
            row_stride: rows * self.row_stride,
            ..self
        }
    }

    /// Its rows and those of `next` as one matrix, if these lie right behind them without any gap.
    pub fn followed_by(self, next: Self) -> Option<Self> {
        let is_next = !self.is_q8_0
            && next.storage == self.storage
            && next.offset == self.offset + self.len() / self.elements.per_word()
            && (next.cols, next.elements) == (self.cols, self.elements);
        (is_next && self.is_dense() && next.is_dense()).then(|| Self {
            rows: self.rows + next.rows,
            ..self
        })
    }

    /// A part would lie apart from its scales.
    fn expect_no_scales(&self) {
        assert!(!self.is_q8_0, "a part of {self:?}");
    }

    /// `count` columns from `first`: a view with gaps, which only kernels with strides take; the
    /// start must suit the device's binding alignment.
    ///
    /// # Panics
    /// If the columns lie outside of the tensor.
    pub fn columns(self, first: usize, count: usize) -> Self {
        assert!(
            first + count <= self.cols,
            "columns {first}+{count} of {}",
            self.cols
        );
        assert!(
            !self.is_halves() || first.is_multiple_of(HALVES_MULTIPLE),
            "columns from {first} of {self:?}"
        );
        self.expect_no_scales();
        Self {
            offset: self.offset + first / self.elements.per_word(),
            cols: count,
            ..self
        }
    }

    /// `count` rows from `first`; the start must suit the device's binding alignment.
    ///
    /// # Panics
    /// If the rows lie outside of the tensor.
    pub fn slice_rows(self, first: usize, count: usize) -> Self {
        assert!(
            first + count <= self.rows,
            "rows {first}+{count} of {}",
            self.rows
        );
        self.expect_no_scales();
        Self {
            offset: self.offset + first * self.row_words(),
            rows: count,
            ..self
        }
    }

    /// `len` words from word `first`, as a vector.
    ///
    /// # Panics
    /// If the words lie outside of the tensor, or there are gaps between them.
    pub fn slice(self, first: usize, len: usize) -> Self {
        assert!(
            first + len <= self.len(),
            "words {first}+{len} of {}",
            self.len()
        );
        let is_plain = self.is_dense() && !self.is_halves() && !self.is_q8_0;
        assert!(is_plain, "slice of {self:?}, which has gaps or no words");
        Self {
            offset: self.offset + first,
            rows: 1,
            cols: len,
            row_stride: len,
            ..self
        }
    }
}

/// A matrix held in an `rgba32float` texture: one texel holds four neighbouring columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Texture {
    pub(crate) storage: StorageId,
    /// Height in texels: the matrix's rows.
    pub rows: usize,
    /// Columns of the matrix; the width is at least `cols.div_ceil(4)` texels.
    pub cols: usize,
}

/// A part of a matrix, or of its transpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The matrix as it lies in memory.
    pub tensor: Tensor,
    /// Whether rows and columns below are those of the transpose.
    pub transposed: bool,
    /// First row of the window.
    pub first_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// First column of the window.
    pub first_col: usize,
    /// Number of columns.
    pub cols: usize,
}

impl Window {
    /// All of a matrix, as it lies in memory.
    pub fn whole(tensor: Tensor) -> Self {
        Self {
            tensor,
            transposed: false,
            first_row: 0,
            rows: tensor.rows,
            first_col: 0,
            cols: tensor.cols,
        }
    }
}

/// Words between the starts of two tensors that share a buffer, so that each can be bound alone:
/// 256 bytes is the largest `min_storage_buffer_offset_alignment` that WebGPU allows.
pub const ALIGNMENT_WORDS: usize = 64;

/// Columns of a matrix that begin at a multiple of this can be bound alone, be they words or halves.
pub const COLUMNS_MULTIPLE: usize = 2 * ALIGNMENT_WORDS;

/// `words` rounded up to [`ALIGNMENT_WORDS`].
pub fn align_words(words: usize) -> usize {
    words.next_multiple_of(ALIGNMENT_WORDS)
}
