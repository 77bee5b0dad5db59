//! Separated values to an outline: all rows under the names of the columns.
//!
//! Does not interpret fields. A record of several lines is kept whole where it fits.

use csv::{ByteRecord, ReaderBuilder};

use super::outline::{Grain, Outline};

/// How much of the header line is looked at for its delimiter.
const HEADER_BYTES: usize = 64 * 1024;

/// The outline of a table, or `None` where the text has no header of at least two columns.
pub(super) fn outline(text: &str) -> Option<Outline> {
    let delimiter = delimiter(text)?;
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(text.as_bytes());
    let mut record = ByteRecord::new();
    if !reader.read_byte_record(&mut record).ok()? {
        return None;
    }
    let columns: Vec<_> = record.iter().map(|field| String::from_utf8_lossy(field).trim().to_owned()).collect();
    let mut outline = Outline::new(Grain::Rows);
    let node = outline.add_node(None, &columns.join(", "));
    outline.add_section(Some(node), 0..text.len(), true);
    let mut start = position(&reader);
    while reader.read_byte_record(&mut record).ok()? {
        let end = position(&reader);
        if text.get(start..end).is_some_and(|row| row.trim_end().contains('\n')) {
            outline.atoms.push(start..end);
        }
        start = end;
    }
    Some(outline)
}

fn position(reader: &csv::Reader<&[u8]>) -> usize {
    usize::try_from(reader.position().byte()).unwrap_or(usize::MAX)
}

/// The character that separates most columns in the first line.
fn delimiter(text: &str) -> Option<u8> {
    let header = text.trim_start().as_bytes();
    let header = header.get(..HEADER_BYTES).unwrap_or(header);
    let line = header.split(|&byte| byte == b'\n').next()?;
    let count = |delimiter: u8| {
        let mut quoted = false;
        line.iter()
            .filter(|&&byte| {
                quoted ^= byte == b'"';
                byte == delimiter && !quoted
            })
            .count()
    };
    let best = [b',', b'\t', b';', b'|'].into_iter().rev().max_by_key(|&delimiter| count(delimiter))?;
    (count(best) > 0).then_some(best)
}
