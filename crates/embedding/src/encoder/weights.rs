//! Reads tensors out of a safetensors file, one at a time.
//!
//! The file is never held in memory as a whole, nor is a tensor beside its numbers, so loading needs little more than
//! the result.
//! Format: <https://github.com/huggingface/safetensors#format>. Does not know what the tensors are for.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use safetensors::{Dtype, tensor::Metadata};

use crate::error::EmbedError;

/// The header of a large model has some ten kilobytes; this refuses a length read from garbage.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Bytes read at a time; a multiple of every number's size.
const BLOCK_BYTES: usize = 256 << 10;

/// An open weights file.
pub(crate) struct Weights {
    model: String,
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the tensors' bytes begin.
    data_start: u64,
    /// `bert.` where the file holds a model with a head, else empty.
    prefix: &'static str,
}

impl Weights {
    /// Opens a file and reads its header.
    pub(crate) fn open(model: &str, path: &Path) -> Result<Weights, EmbedError> {
        let mut file = File::open(path).map_err(EmbedError::io("open", path))?;
        let length = file.metadata().map_err(EmbedError::io("read the size of", path))?.len();
        let corrupt = |reason: &str| EmbedError::CorruptFile { path: path.to_owned(), reason: reason.to_owned() };
        let mut size = [0; 8];
        file.read_exact(&mut size).map_err(|_| corrupt("it has no header"))?;
        let header_bytes = u64::from_le_bytes(size);
        if header_bytes > MAX_HEADER_BYTES || header_bytes + 8 > length {
            return Err(corrupt("its header does not fit"));
        }
        let mut header = Vec::new();
        (&mut file).take(header_bytes).read_to_end(&mut header).map_err(EmbedError::io("read", path))?;
        // Deserializing also checks that the tensors lie side by side and have the sizes their shapes say.
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|_| corrupt("its header cannot be read"))?;
        let data_start = 8 + header_bytes;
        if data_start + metadata.data_len() as u64 != length {
            return Err(corrupt("it is cut off"));
        }
        let plain = metadata.info("embeddings.word_embeddings.weight").is_some();
        let prefix = if plain { "" } else { "bert." };
        Ok(Weights { model: model.to_owned(), path: path.to_owned(), file, metadata, data_start, prefix })
    }

    /// Reads one tensor, which must have the given shape, as 32-bit numbers.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbedError> {
        let name = format!("{}{name}", self.prefix);
        let invalid = |reason: String| EmbedError::InvalidModel { model: self.model.clone(), reason };
        let info = self.metadata.info(&name).ok_or_else(|| invalid(format!("its weights lack {name}")))?;
        if info.shape != shape {
            return Err(invalid(format!("{name} has shape {:?} instead of {shape:?}", info.shape)));
        }
        let widen: fn(&[u8], &mut Vec<f32>) = match info.dtype {
            Dtype::F32 => |bytes, values| {
                values.extend(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)));
            },
            Dtype::F16 => |bytes, values| {
                values.extend(bytes.as_chunks().0.iter().map(|&two| half::f16::from_le_bytes(two).to_f32()));
            },
            Dtype::BF16 => |bytes, values| {
                values.extend(bytes.as_chunks().0.iter().map(|&two| half::bf16::from_le_bytes(two).to_f32()));
            },
            other => return Err(invalid(format!("{name} has the number type {other:?}, not F32, F16 or BF16"))),
        };
        let (from, to) = info.data_offsets;
        let mut values = Vec::with_capacity(shape.iter().product());
        self.file.seek(SeekFrom::Start(self.data_start + from as u64)).map_err(EmbedError::io("read", &self.path))?;
        let mut block = vec![0; BLOCK_BYTES.min(to - from)];
        let mut left = to - from;
        while left > 0 {
            let bytes = &mut block[..BLOCK_BYTES.min(left)];
            self.file.read_exact(bytes).map_err(EmbedError::io("read", &self.path))?;
            widen(bytes, &mut values);
            left -= bytes.len();
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(EmbedError::InvalidModel {
                model: self.model.clone(),
                reason: format!("{name} has values that are not finite"),
            });
        }
        Ok(values)
    }
}
